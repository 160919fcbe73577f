"""Parameters and MACs against closed forms, and against torch's own steps where these can be counted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from diarbench.errors import AdapterError
from diarbench.measure import Network
from diarbench.measure.counts import build_networks, count_macs, count_system, macs_of
from diarbench.types import Complexity, HeldWeights

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402


def meta(*shape: int) -> Any:
    return torch.empty(shape, device="meta")


def test_nothing_to_count():
    assert count_system(None, None, None) is None
    assert count_system(None, None, 10) == Complexity(None, None, {}, 10)
    assert count_system({}, None, None) == Complexity(0, 0, {}, None)


def test_parameters_by_stage_and_those_that_are_not_zero():
    first, second = nn.Linear(4, 3), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.weight[0] = 0.0
        first.bias.zero_()
        second.weight.fill_(-0.5)
    network = nn.Sequential(first, nn.BatchNorm1d(3))
    found = count_system({"encoder": network, "head": nn.ModuleList([second, first])}, None, 100)
    # BatchNorm has a weight (1) and a bias (0) of 3; what two stages share counts once, in the first.
    held = {"float32": HeldWeights(27, 108)}
    assert found == Complexity(15 + 6 + 6, 8 + 3 + 6, {"encoder": 21, "head": 6}, 100, held=held)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules_and_half_precision():
    layer = nn.Linear(2, 2).to(torch.bfloat16)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    held = {"bfloat16": HeldWeights(6, 12)}
    assert count_system({"all": torch.jit.script(layer)}, None, None) == Complexity(6, 4, {"all": 6}, held=held)


RECURRENT = [
    (kind, layers, two_ways, batch_first, bias, projected)
    for kind, layers, two_ways, batch_first, bias, projected in itertools.product(
        ("LSTM", "GRU", "RNN"), (1, 3), (False, True), (False, True), (False, True), (0, 5)
    )
    if kind == "LSTM" or not projected
]


@pytest.mark.parametrize("shape", [(6, 3, 4), (6, 4)], ids=["batch", "no batch"])
@pytest.mark.parametrize(("kind", "layers", "two_ways", "batch_first", "bias", "projected"), RECURRENT)
def test_recurrent_layers_count_as_step_by_step(
    shape: tuple[int, ...], kind: str, layers: int, two_ways: bool, batch_first: bool, bias: bool, projected: int
):
    how = {"bidirectional": two_ways, "batch_first": batch_first, "bias": bias}
    network = getattr(nn, kind)(4, 7, layers, device="meta", **how, **({"proj_size": 5} if projected else {}))
    with torch.no_grad(), FlopCounterMode(display=False) as steps:
        expected = network(meta(*shape))
    assert count_macs(network, [meta(*shape)]) == (steps.get_total_flops() // 2,)
    shapes: list[Any] = []
    network.register_forward_hook(lambda module, inputs, outputs: shapes.append(outputs))
    count_macs(network, [meta(*shape)])
    assert torch.utils._pytree.tree_map(lambda t: t.shape, shapes[0]) == torch.utils._pytree.tree_map(
        lambda t: t.shape, expected
    )
    assert "forward" not in vars(network)


def test_the_closed_form_of_an_lstm():
    network = nn.LSTM(60, 128, 4, bidirectional=True, batch_first=True)
    # PyanNet's: 589 frames, four layers, two directions, four gates of 128 units, which read inputs and own states.
    expected = 589 * 2 * 4 * 128 * ((60 + 128) + 3 * (256 + 128))
    assert count_macs(network, [meta(1, 589, 60)]) == (expected,)


def test_packed_sequences_count_the_steps_that_are_there():
    network = nn.LSTM(4, 7, 2, bidirectional=True)

    class Packing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: Any) -> Any:
            packed = nn.utils.rnn.pack_padded_sequence(inputs, torch.tensor([10, 8, 3], device="cpu"))
            outputs, (hidden, cells) = self.network(packed)
            assert outputs.data.shape == (21, 14)
            assert hidden.shape == cells.shape == (4, 3, 7)
            return outputs

    assert count_macs(Packing(), [meta(10, 3, 4)]) == (21 * 2 * 4 * 7 * ((4 + 7) + (14 + 7)),)


def test_a_subclass_that_computes_in_its_own_way_is_left_alone():
    class Half(nn.LSTM):
        def forward(self, inputs: Any) -> Any:  # type: ignore[override]
            return super().forward(inputs[::2])

    assert count_macs(Half(4, 7), [meta(6, 1, 4)]) == (3 * 4 * 7 * 11,)


@pytest.mark.parametrize(
    ("network", "shape", "macs"),
    [
        (lambda: nn.Linear(5, 3), (2, 7, 5), 2 * 7 * 15),
        (lambda: nn.Conv1d(4, 6, 3, stride=2, groups=2), (1, 4, 21), 10 * 3 * 2 * 6),
        # Four projections of d x d, scores and their sum over values: 4 T d² + 2 T² d.
        (lambda: Attention(8, 2), (1, 10, 8), 4 * 10 * 64 + 2 * 100 * 8),
        (lambda: nn.TransformerEncoderLayer(8, 2, 32, batch_first=True), (1, 10, 8), 2560 + 1600 + 2 * 10 * 8 * 32),
        (lambda: Fused(8), (1, 2, 10, 8), 2 * 2 * 100 * 8),
        (lambda: Cell(), (1, 4), 4 * 7 * 11),
        (lambda: nn.LayerNorm(8), (1, 10, 8), 0),
    ],
    ids=["linear", "grouped convolution", "attention", "transformer layer", "fused attention", "cell", "norm"],
)
def test_closed_forms(network: Any, shape: tuple[int, ...], macs: int):
    assert count_macs(network(), [torch.zeros(shape)]) == (macs,)


class Attention(nn.MultiheadAttention):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, batch_first=True)

    def forward(self, inputs: Any) -> Any:  # type: ignore[override]
        return super().forward(inputs, inputs, inputs, need_weights=False)


class Fused(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, inputs: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(inputs, inputs, inputs)


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 7)

    def forward(self, inputs: Any) -> Any:
        return self.cell(inputs)


class Model(nn.Module):
    """A CNN in a list, which nobody calls as a whole; an encoder that holds it; a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.cnn = nn.ModuleList([nn.Linear(1, 2), nn.Linear(2, 3)])
        self.encoder.top = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, inputs: Any) -> Any:
        for layer in self.encoder.cnn:
            inputs = layer(inputs)
        return self.head(self.encoder.top(inputs))


def samples(batch: int, seconds: float) -> tuple[Any]:
    return (torch.zeros(batch, round(10 * seconds), 1),)


def model(**more: Any) -> Network:
    parts = {"CNN": ["encoder.cnn"], "rest": ["encoder.top", "head"]}
    return Network(Model(), **{"inputs": samples, "window": 2.0, "parts": parts, "encoder": "encoder", **more})


def test_parts_and_encoder():
    found = count_system(None, {"net": model()}, None)
    assert found is not None
    stage = found.stages["net"]
    assert (stage.parameters, stage.macs_1s, stage.window, stage.macs_window) == (33, 230, 2.0, 460)
    assert {name: (part.parameters, part.macs_1s) for name, part in stage.parts.items()} == {
        "CNN": (13, 80),
        "rest": (20, 150),
    }
    assert (found.encoder_parameters, found.encoder_macs_1s) == (25, 170)
    assert (found.encoder_macs_window, found.encoder_window) == (340, 2.0)
    assert (found.parameters, found.nonzero_parameters, found.parameters_by_stage) == (33, None, {"net": 33})
    assert found.held == {}


def test_a_network_without_window_or_encoder():
    found = count_system(None, {"net": model(window=None, encoder=None, parts={})}, None)
    assert found is not None
    assert (found.stages["net"].macs_1s, found.stages["net"].macs_window) == (230, None)
    assert (found.encoder_parameters, found.encoder_macs_1s, found.encoder_window) == (None, None, None)


def test_parameters_are_the_unquantized_ones_and_held_what_runs():
    found = count_system({"net": Model().to(torch.bfloat16)}, {"net": model()}, None)
    assert found is not None
    assert found.parameters == 33
    assert found.held == {"bfloat16": HeldWeights(33, 66)}


def test_macs_of_any_length():
    assert macs_of(model(), 7.0).total == 7 * 230
    assert macs_of(model(), 7.0).encoder == 7 * 170


class Told:
    """An adapter whose `networks` gives whatever it is told to."""

    answer: Any = None

    @classmethod
    def networks(cls, *, wide: bool = False) -> Any:
        return cls.answer() if callable(cls.answer) else cls.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], r"networks\(\) must map names to diarbench.measure.Network; got list"),
        ({"a": 3}, r"networks\(\) must map names to diarbench.measure.Network"),
        (lambda: {"a": model(), "b": model()}, "only one network of a system has an encoder"),
        (lambda: {"a": model(encoder="no.such")}, r"networks\(\)\['a'\] has no submodule 'no.such'"),
        (lambda: {"a": model(parts={"CNN": ["cnn"]})}, r"networks\(\)\['a'\] has no submodule 'cnn'"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
    ids=["a list", "a number", "two encoders", "no encoder", "no part", "an exception"],
)
def test_networks_that_can_not_be(answer: Any, message: str):
    adapter = type("System", (Told,), {"answer": staticmethod(answer) if callable(answer) else answer})
    with pytest.raises(AdapterError, match=message):
        build_networks(adapter, {})


def test_an_option_that_networks_does_not_take():
    with pytest.raises(AdapterError, match=r"networks\(\) failed with the card's \[options\]: TypeError.*'deep'"):
        build_networks(Told, {"deep": True})
    assert build_networks(object, {}) is None


def test_networks_are_built_without_weights():
    adapter = type("System", (Told,), {"answer": staticmethod(lambda: {"a": model()})})
    networks = build_networks(adapter, {"wide": True})
    assert networks is not None
    assert all(weight.is_meta for weight in networks["a"].module.parameters())


@pytest.mark.parametrize(
    "network",
    [
        model(inputs=lambda batch, seconds: (torch.zeros(1, 5, 9),)),
        model(inputs=lambda batch, seconds: 1 / 0),
    ],
    ids=["shape", "exception"],
)
def test_inputs_that_do_not_fit(network: Network):
    with pytest.raises(AdapterError, match=r"networks\(\)\['net'\] can't be counted on 1 s of audio: "):
        count_system(None, {"net": network}, None)


def test_modules_that_can_not_be():
    with pytest.raises(AdapterError, match=r"modules\(\) must map names to torch modules; 'net' is a str"):
        count_system({"net": "a network"}, None, None)
    names: Mapping[str, Any] = {"other": Model()}
    with pytest.raises(AdapterError, match=r"must have the same names; they have \['other'\] and \['net'\]"):
        count_system(names, {"net": model()}, None)
