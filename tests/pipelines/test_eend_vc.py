"""EEND-VC gives what pyannote.audio's own pipeline gives, to the byte of the RTTM."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import soundfile
import torch
from random_networks import RATE, pyannote_pipeline, resnet, small_segmentation, voices

from diarbench.errors import AudioError, DiarbenchError, InputError, MissingRequirementError, NotFoundError
from diarbench.measure.stages import measured_stages
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.pipelines.eend_networks import Ge2eEmbedding
from diarbench.pipelines.eend_recipes import DIARIZEN, RECIPES, Ahc, Recipe, Vbx
from diarbench.pipelines.eend_vc import EendVc, without_tf32
from diarbench.rttm import format_rttm
from diarbench.types import Turns

AHC, VBX = RECIPES["pyannote-3.1"], RECIPES["pyannote-community-1"]
# pyannote.audio warns of numbers of speakers that it can't meet.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def rttm(turns: Turns) -> str:
    return format_rttm("recording", turns)


@pytest.fixture(scope="module")
def speech():
    return voices(14.0)


@pytest.fixture(scope="module")
def segmentation():
    return small_segmentation()


@pytest.fixture(scope="module")
def embedding(speech):
    return resnet(speech)


@pytest.fixture(scope="module")
def ours(segmentation, embedding, plda):
    """A pipeline that several tests ask."""
    return EendVc(segmentation, embedding, AHC, plda=plda, hop=1.0)


def both(segmentation, embedding, recipe, plda, samples, *, hop_share=0.25, **hints) -> tuple[Turns, Turns]:
    """The turns of pyannote.audio's own class, and ours."""
    stock = pyannote_pipeline(segmentation, embedding, recipe, plda, hop_share=hop_share)
    output = stock(
        {"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE, "uri": "recording"},
        **{name.replace("speakers", "num_speakers") if name == "speakers" else name: n for name, n in hints.items()},
    )
    hop = hop_share * segmentation.specifications.duration
    ours = EendVc(segmentation, embedding, recipe, plda=plda, hop=hop)
    return Turns.from_annotation(output.speaker_diarization), ours.diarize(samples, RATE, **hints)


@pytest.mark.parametrize(
    ("overlap", "recipe", "hop_share"),
    [
        (2, AHC, 0.1),
        (2, VBX, 0.1),
        (4, AHC, 0.25),
        (4, VBX, 0.25),
        (None, RECIPES["pyannote-2.1"], 0.25),
        (None, VBX, 0.25),
        (2, dataclasses.replace(AHC, exclude_overlap=False, min_off=0.4), 0.5),
        (2, dataclasses.replace(VBX, exclude_overlap=False), 0.5),
        (2, Recipe(Ahc(0.9, 3, method="average")), 0.25),
    ],
)
def test_same_rttm_as_pyannote(overlap, recipe, hop_share, embedding, plda, speech):
    """Powersets of 2 and 4 speakers at once, and (None) a network of probabilities."""
    stock, ours = both(small_segmentation(overlap=overlap), embedding, recipe, plda, speech, hop_share=hop_share)
    assert rttm(ours) == rttm(stock)
    assert len(ours.labels) >= 2
    assert len(ours) >= 8


@pytest.mark.parametrize("recipe", [AHC, VBX])
def test_speakers_are_several_and_change(recipe, segmentation, plda):
    samples = voices(30.0)
    turns = EendVc(segmentation, resnet(samples), recipe, plda=plda).diarize(samples, RATE)
    assert len(turns.labels) >= 3
    assert sum(before != after for before, after in zip(turns.speakers, turns.speakers[1:], strict=False)) > 20


HINTS = [
    {"speakers": 1},
    {"speakers": 2},
    {"speakers": 6},
    {"min_speakers": 5},
    {"max_speakers": 2},
    {"min_speakers": 2, "max_speakers": 3},
]


@pytest.mark.parametrize("hints", HINTS, ids=str)
@pytest.mark.parametrize("recipe", [AHC, VBX], ids=["ahc", "vbx"])
def test_hints_bind_as_in_pyannote(recipe, hints, segmentation, embedding, plda, speech):
    stock, ours = both(segmentation, embedding, recipe, plda, speech[: 8 * RATE], hop_share=0.1, **hints)
    assert rttm(ours) == rttm(stock)
    assert len(ours.labels) <= hints.get("speakers", hints.get("max_speakers", 99))


@pytest.mark.parametrize("samples", [200, 1600, 4 * RATE - 1, 4 * RATE, 4 * RATE + 1, 5 * RATE, 5 * RATE + 17])
@pytest.mark.parametrize("recipe", [AHC, VBX], ids=["ahc", "vbx"])
def test_short_signals(recipe, samples, segmentation, embedding, plda, speech):
    """Shorter than a window, one window, a window and a little: the last window is filled up with silence."""
    stock, ours = both(segmentation, embedding, recipe, plda, speech[:samples])
    assert rttm(ours) == rttm(stock)


@pytest.mark.parametrize("recipe", [AHC, VBX], ids=["ahc", "vbx"])
def test_silence_is_nobody(recipe, segmentation, embedding, plda):
    stock, ours = both(segmentation, embedding, recipe, plda, np.zeros(6 * RATE, dtype=np.float32))
    assert len(ours) == len(stock) == 0


def test_silent_windows_among_speech(segmentation, embedding, plda, speech):
    signal = speech.copy()
    signal[3 * RATE : 10 * RATE] = 0.0
    stock, ours = both(segmentation, embedding, AHC, plda, signal)
    assert rttm(ours) == rttm(stock)
    assert not len(ours.crop(4.0, 9.0))


def test_a_window_needs_no_training(embedding, plda, speech):
    """A network made for 4 s gives at 2.5 s what it gives if it says that it was made for 2.5 s."""
    trained, other = small_segmentation(window=4.0), small_segmentation(window=2.5)
    expected, _ = both(other, embedding, AHC, plda, speech, hop_share=0.2)
    assert rttm(EendVc(trained, embedding, AHC, window=2.5, hop=0.5).diarize(speech, RATE)) == rttm(expected)
    recipe = dataclasses.replace(AHC, window=2.5, hop=0.5)
    assert rttm(EendVc(trained, embedding, recipe).diarize(speech, RATE)) == rttm(expected)
    assert trained.specifications.duration == 4.0


@pytest.mark.parametrize("batches", [(1, 1), (5, 7), (64, 64)])
def test_batch_sizes_change_nothing(batches, segmentation, embedding, ours, speech):
    other = EendVc(
        segmentation, embedding, AHC, hop=1.0, segmentation_batch=batches[0], embedding_batch=batches[1]
    )  # fmt: skip
    assert rttm(other.diarize(speech, RATE)) == rttm(ours.diarize(speech, RATE))


@pytest.mark.parametrize("recipe", [AHC, VBX, RECIPES["diarizen-s80"]], ids=["ahc", "vbx", "diarizen"])
def test_ge2e_embeddings(recipe, segmentation, plda, speech):
    torch.manual_seed(0)
    embedding = Ge2eEmbedding(Ge2eEncoder().eval())
    if recipe.rules == DIARIZEN:
        turns = EendVc(segmentation, embedding, recipe, plda=plda, window=4.0).diarize(speech, RATE)
        assert len(turns) > 20
        return
    stock, ours = both(segmentation, embedding, recipe, plda, speech)
    assert rttm(ours) == rttm(stock)


def test_half_precision_says_nearly_the_same(segmentation, embedding, ours, speech):
    half = EendVc(segmentation, embedding, AHC, hop=1.0, precision="bf16").diarize(speech, RATE)
    single = ours.diarize(speech, RATE)
    spoken = [sum(turn.end - turn.start for turn in turns) for turns in (half, single)]
    assert spoken[0] == pytest.approx(spoken[1], rel=0.05)
    assert rttm(half) != rttm(single)  # or it was not half precision


def test_it_leaves_the_process_as_it_was(segmentation, embedding, plda, speech, capfd):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    turns = EendVc(segmentation, embedding, VBX, plda=plda, hop=1.0).diarize(speech, RATE)
    assert len(turns)
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr().out == ""


def test_tf32_is_off_meanwhile():
    def flags() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    with without_tf32(torch.device("cuda")):
        assert flags() == (False, False)
    assert flags() == before
    assert before[1]  # or the test shows nothing


def test_telemetry_is_off():
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"
    assert not is_metrics_enabled()


def test_what_pyannote_prints_is_logged(segmentation, embedding, speech, capfd, caplog):
    """Its AHC prints where it can't find as many speakers as it should."""
    EendVc(segmentation, embedding, AHC, hop=1.0).diarize(speech, RATE, speakers=40)
    assert capfd.readouterr().out == ""
    assert "Found only" in caplog.text


def test_stages_are_marked(ours, speech):
    with measured_stages() as clock:
        ours.diarize(speech, RATE)
    assert set(clock.seconds) == {"segmentation", "embedding", "clustering", "reconstruction"}


def test_a_file_gives_the_same(ours, speech, tmp_path):
    """Read window by window; the file holds every bit of the signal, and a silent channel beside it."""
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.stack([speech, 0 * speech], axis=1), RATE, subtype="FLOAT")
    expected = rttm(ours.diarize(speech, RATE))
    assert expected.count("SPEAKER") > 5
    assert rttm(ours.diarize_file(path, channel="first")) == expected
    assert failing(AudioError, lambda: ours.diarize_file(path)).startswith(f"{path}: has 2 channels")
    assert "no such audio file" in failing(AudioError, lambda: ours.diarize_file(tmp_path / "none.wav"))


def test_read_only_samples_are_not_copied(ours, speech):
    signal = speech[None].copy()
    signal.flags.writeable = False
    assert rttm(ours.diarize(signal, RATE)) == rttm(ours.diarize(speech, RATE))
    np.testing.assert_array_equal(signal[0], speech)


def test_modules_are_the_networks(ours, segmentation, embedding):
    assert ours.modules() == {"segmentation": segmentation, "embedding": embedding}


def failing(expected, call) -> str:
    with pytest.raises(expected) as caught:
        call()
    assert isinstance(caught.value, DiarbenchError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected", "words"),
    [
        ({"recipe": "diarizen-s8"}, NotFoundError, "did you mean diarizen-s80"),
        ({"recipe": VBX}, MissingRequirementError, "PLDA"),
        ({"precision": "fp16"}, InputError, "did you mean bf16"),
        ({"hop": 5.0}, InputError, "gaps"),
        ({"hop": 1 / 3}, InputError, "whole number of samples"),
        ({"window": -1.0}, InputError, "window"),
        ({"window": 0.0}, InputError, "window"),
        ({"embedding_batch": 0}, InputError, "embedding_batch"),
        ({"device": "gpu"}, InputError, "device"),
        ({"device": "cuda:99"}, MissingRequirementError, "CUDA"),
    ],
)
def test_wrong_settings(options, expected, words, segmentation, embedding):
    assert words in failing(expected, lambda: EendVc(segmentation, embedding, **{"recipe": AHC} | options))


def test_a_median_filter_needs_decisions(embedding):
    network, recipe = small_segmentation(overlap=None), Recipe(Ahc(0.7, 5), DIARIZEN)
    assert "median_frames" in failing(InputError, lambda: EendVc(network, embedding, recipe))


@pytest.mark.parametrize(
    ("arguments", "hints", "expected", "words"),
    [
        ((np.zeros((2, 900), np.float32), RATE), {}, AudioError, "one channel"),
        ((np.zeros(0, np.float32), RATE), {}, AudioError, "(0,)"),
        ((np.zeros(900, np.float32), 8000), {}, AudioError, "8000 Hz"),
        ((np.full(900, np.nan, np.float32), RATE), {}, AudioError, "not finite"),
        ((np.zeros(900, np.float32), RATE), {"speakers": 0}, InputError, "speakers is 1 or more"),
        ((np.zeros(900, np.float32), RATE), {"min_speakers": 3, "max_speakers": 2}, InputError, "above"),
        ((np.zeros(900, np.float32), RATE), {"speakers": 3, "max_speakers": 2}, InputError, "speakers"),
    ],
)
def test_wrong_signals_and_hints(arguments, hints, expected, words, ours):
    assert words in failing(expected, lambda: ours.diarize(*arguments, **hints))


def test_diarizens_vbx_takes_no_hints(segmentation, embedding, plda, speech):
    recipe = dataclasses.replace(RECIPES["diarizen-s80"], window=4.0)
    system = EendVc(segmentation, embedding, recipe, plda=plda)
    assert "hints_bind_vbx" in failing(InputError, lambda: system.diarize(speech, RATE, speakers=2))
    bound = dataclasses.replace(recipe, rules=dataclasses.replace(DIARIZEN, hints_bind_vbx=True))
    assert len(EendVc(segmentation, embedding, bound, plda=plda).diarize(speech, RATE, speakers=2).labels) == 2


def test_diarizen_differs_from_stock(segmentation, embedding, plda, speech):
    for clustering in (AHC.clustering, Vbx()):
        stock = EendVc(segmentation, embedding, Recipe(clustering), plda=plda).diarize(speech, RATE)
        diarizen = EendVc(segmentation, embedding, Recipe(clustering, DIARIZEN), plda=plda).diarize(speech, RATE)
        assert rttm(stock) != rttm(diarizen)
        assert len(diarizen.labels) >= 2


@pytest.mark.parametrize("name", ["diarizen-s80", "diarizen-meeting"])
def test_diarizen_on_silence_and_short_signals(name, segmentation, embedding, plda, speech):
    system = EendVc(segmentation, embedding, name, plda=plda)
    assert len(system.diarize(np.zeros(6 * RATE, dtype=np.float32), RATE)) == 0
    assert len(system.diarize(speech[: 2 * RATE], RATE))


@pytest.mark.parametrize("recipe", [AHC, VBX], ids=["ahc", "vbx"])
def test_a_meeting(recipe, segmentation, plda, ami):
    samples = ami(0, 12.0)
    stock, ours = both(segmentation, resnet(samples), recipe, plda, samples)
    assert rttm(ours) == rttm(stock)
    assert len(ours.labels) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [AHC, VBX], ids=["ahc", "vbx"])
def test_all_meetings_and_ten_minutes(recipe, plda, ami, ami_files, capsys):
    """Each AMI excerpt once, and all of them as one recording of ten minutes, with networks of other seeds."""
    excerpts = [ami(number, 30.0) for number in range(len(ami_files))]
    ten_minutes = np.resize(np.concatenate(excerpts), 600 * RATE)
    found = []
    for seed, samples in enumerate([*excerpts, ten_minutes]):
        stock, ours = both(small_segmentation(seed=seed), resnet(samples, seed), recipe, plda, samples, hop_share=0.1)
        with capsys.disabled():
            same = "same RTTM" if rttm(ours) == rttm(stock) else "ANOTHER RTTM"
            print(f"\n{len(samples) / RATE:.0f} s: {len(ours.labels)} speakers, {len(ours)} turns, {same}", end="")
        assert rttm(ours) == rttm(stock), seed
        found.append(len(ours.labels))
    assert found[-1] >= 4
    assert np.mean(found) >= 3
