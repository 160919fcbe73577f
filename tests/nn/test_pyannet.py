"""PyanNet against pyannote.audio's class, and the sizes of its pruned variants."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))

from small_networks import noise, shaken

from diarbench.errors import AudioError, InputError, MissingRequirementError
from diarbench.nn.pyannet import PARTS, PyanNet, PyanNetShape, in_pyannote, load_pyannet

SMALL = PyanNetShape(lstm=(12, 12), linear=(9, 9))


def theirs(shape: PyanNetShape) -> Any:
    """pyannote.audio's own PyanNet of this shape, freshly made."""
    pytest.importorskip("pyannote.audio", reason="pyannote.audio is compared with")
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet as PyannotesPyanNet

    model = PyannotesPyanNet(
        sincnet={"stride": shape.stride},
        lstm={"hidden_size": shape.lstm[0], "num_layers": len(shape.lstm), "bidirectional": True},
        linear={"hidden_size": shape.linear[0] if shape.linear else 0, "num_layers": len(shape.linear)},
    )
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=[str(speaker) for speaker in range(shape.speakers)],
        powerset_max_classes=shape.overlap,
        permutation_invariant=True,
    )
    model.build()
    return model.eval()


def numel(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize(
    "shape",
    [
        SMALL,
        PyanNetShape(),
        PyanNetShape(lstm=(12,), linear=(), stride=5),
        PyanNetShape(lstm=(7, 7), linear=(9,), speakers=4, overlap=4),
    ],
)
@torch.inference_mode()
def test_it_equals_pyannotes(shape: PyanNetShape) -> None:
    other = shaken(theirs(shape))
    state = other.state_dict()
    state["sincnet.conv1d.0.filterbank.low_hz_"] *= -1  # edges may turn negative in training
    other.load_state_dict(state)
    ours = load_pyannet(shape, state, "some.bin")
    samples = noise(2, 16000)
    expected = other(samples.unsqueeze(1))
    assert expected.shape == (2, shape.frames(16000), shape.classes)
    torch.testing.assert_close(ours(samples), expected, rtol=1e-4, atol=1e-4)
    assert in_pyannote(ours).keys() == state.keys()


def test_frames_lie_where_pyannotes_do() -> None:
    for stride in (1, 10):
        other, shape = theirs(PyanNetShape(stride=stride)), PyanNetShape(stride=stride)
        assert shape.receptive_field == other.receptive_field_size(1)
        assert shape.step == other.receptive_field_size(2) - other.receptive_field_size(1)
        for samples in (shape.receptive_field, shape.receptive_field - 1, 16000, 160000, 80001):
            assert shape.frames(samples) == max(other.num_frames(samples), 0)
    assert PyanNetShape().frames(160000) == 589


def test_fresh_filters_are_pyannotes() -> None:
    fresh, other = PyanNet(SMALL), theirs(SMALL).state_dict()
    for name, tensor in in_pyannote(fresh).items():
        if "filterbank" in name:
            torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "millions"),
    [  # "Hidden" and "Linear" of the quantization and pruning paper, at 20, 40, 60 and 80 % nominal sparsity
        *(
            (PyanNetShape(lstm=(width,) * 4), m)
            for width, m in ((104, 1.0086), (84, 0.6918), (67, 0.4729), (53, 0.3273))
        ),
        *(
            (PyanNetShape(linear=(width,) * 2), m)
            for width, m in ((104, 1.4613), (84, 1.4523), (67, 1.4452), (53, 1.4398))
        ),
    ],
)
def test_pruned_widths_have_the_papers_sizes(shape: PyanNetShape, millions: float) -> None:
    with torch.device("meta"):
        network = PyanNet(shape)
    assert round(numel(network) / 1e6, 4) == millions
    hidden, first, last = shape.lstm[0], *shape.linear
    lstm = sum(8 * hidden * (inputs + hidden + 2) for inputs in (60, *[2 * hidden] * 3))
    linear = (2 * hidden + 1) * first + (first + 1) * last + (last + 1) * 7
    assert numel(network) == 42_602 + lstm + linear


def macs_by_formula(samples: int) -> dict[str, int]:
    """MACs of the published shape: output frames times weights, and what an LSTM does in each frame both ways."""
    first = (samples - 251) // 10 + 1
    second = first // 3 - 4
    third = second // 3 - 4
    frames = third // 3
    lstm = sum(2 * frames * 4 * 128 * (inputs + 128) for inputs in (60, 256, 256, 256))
    return {
        "PyanNet.sincnet": first * 251 * 80 + second * 5 * 80 * 60 + third * 5 * 60 * 60,
        "PyanNet.lstm": lstm,
        "PyanNet.linear": frames * (256 * 128 + 128 * 128 + 128 * 7),
    }


def test_the_published_shape_is_counted_exactly() -> None:
    with torch.device("meta"):
        network = PyanNet().eval()
        with FlopCounterMode(display=False, depth=3) as counter:
            network(torch.empty(1, 16_000))
    sizes = {part: sum(numel(network.get_submodule(path)) for path in paths) for part, paths in PARTS.items()}
    assert sizes == {"SincNet": 42_602, "LSTM": 1_380_352, "linear": 49_408 + 903}
    assert sum(sizes.values()) == numel(network) == 1_473_265
    assert round(4 * numel(network) / 2**20, 2) == 5.62  # MiB
    expected = macs_by_formula(16_000)
    counted = {path: sum(counts.values()) // 2 for path, counts in counter.get_flop_counts().items()}
    assert {path: counted[path] for path in expected} == expected
    assert counted["Global"] == sum(expected.values())
    # On the window that it was trained with, 10 s (counted once on `meta`, which takes ten seconds for LSTMs):
    assert sum(macs_by_formula(160_000).values()) == 1_318_004_512


@torch.inference_mode()
def test_layers_may_differ_in_width() -> None:
    network = shaken(PyanNet(PyanNetShape(lstm=(5, 3, 8), linear=(4, 6))))
    scores = network(noise(2, 16000))
    torch.testing.assert_close(scores.exp().sum(2), torch.ones(scores.shape[:2]))
    again = load_pyannet(network.shape, in_pyannote(network), "some.bin")
    torch.testing.assert_close(again(noise(2, 16000)), scores)


def test_what_does_not_fit_is_one_clear_line() -> None:
    state = in_pyannote(PyanNet(SMALL))
    with pytest.raises(MissingRequirementError, match=r"some.bin: not the weights of PyanNet: of another shape lstm"):
        load_pyannet(PyanNetShape(lstm=(10, 10), linear=(9, 9)), state, "some.bin")
    with pytest.raises(MissingRequirementError, match=r"unexpected linear.1.weight, linear.1.bias; of another shape"):
        load_pyannet(PyanNetShape(lstm=(12, 12), linear=(8,)), state, "some.bin")
    with pytest.raises(AudioError, match="at least 991 samples"):
        PyanNet(SMALL)(torch.zeros(1, 990))
    for wrong in ({"lstm": ()}, {"lstm": (0,)}, {"linear": (4, 0)}, {"stride": 0}, {"overlap": 4}):
        with pytest.raises(InputError):
            PyanNetShape(**wrong)
