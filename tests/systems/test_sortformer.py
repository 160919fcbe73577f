"""The sortformer family against a stand-in for NeMo, which is too large for these tests.

What is tested is what the adapter asks of it and makes of its answers; test_sortformer_nemo.py has NeMo itself.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from diarbench import checking
from diarbench.bench.streaming import stream_through
from diarbench.cards import SystemCard, expand, read_card
from diarbench.errors import AdapterError, MissingRequirementError
from diarbench.measure.calls import CallRecorder
from diarbench.measure.counts import count_system
from diarbench.measure.stages import measured_stages
from diarbench.registry import Registry, shipped
from diarbench.types import Audio, Turn, Turns

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FOLDER = Path(__file__).resolve().parents[2] / "systems" / "sortformer"
CARDS = {path.stem: read_card(path, SystemCard) for path in sorted(FOLDER.glob("*.toml"), key=lambda path: path.stem)}
SPECS = [spec for name, card in CARDS.items() for spec in expand(name, FOLDER / f"{name}.toml", card)]
FRAME = 1280  # samples

AsAudio = Callable[..., Audio]


class StandIn(nn.Module):
    """As NeMo's SortformerEncLabelModel is called: one speaker where a frame's mean is above 0, one where below."""

    restored: list[dict[str, Any]]
    asked: list[dict[str, Any]]
    lines: list[list[str]] | None

    def __init__(self, *, streaming: bool, normalize: str = "NA") -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.streaming_mode, self.async_streaming, self.device = streaming, False, torch.device("cpu")
        settings = {"chunk_len": 188, "chunk_right_context": 1, "fifo_len": 0, "spkcache_update_period": 188}
        self.sortformer_modules = SimpleNamespace(
            **settings, spkcache_len=188, checked=0, chunk_left_context=1, subsampling_factor=8, n_spk=4
        )
        self.sortformer_modules._check_streaming_parameters = self._check
        self.sortformer_modules.init_streaming_state = lambda **_: 0
        self.preprocessor = Preprocessor(normalize)

    @classmethod
    def restore_from(cls, restore_path: str, map_location: Any = None, strict: bool = True) -> StandIn:
        cls.restored.append({"restore_path": restore_path, "map_location": map_location, "strict": strict})
        return cls(streaming="online" in restore_path)

    def _check(self) -> None:
        self.sortformer_modules.checked += 1

    def probabilities(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(frames, 4) of so many samples, the last frame filled up with silence."""
        frames = math.ceil(len(samples) / FRAME)
        means = np.pad(samples, (0, frames * FRAME - len(samples))).reshape(frames, FRAME).mean(axis=1)
        scaled = np.clip(means * 1000, -10, 10)
        first = 1 / (1 + np.exp(-scaled + 1))
        second = 1 / (1 + np.exp(scaled + 1))
        return np.stack([first, second, 0 * first, 0 * first], axis=1).astype(np.float32)

    def diarize(
        self,
        audio: NDArray[np.float32],
        sample_rate: int | None = None,
        batch_size: int = 1,
        include_tensor_outputs: bool = False,
        postprocessing_yaml: str | None = None,
        num_workers: int = 0,
        verbose: bool = True,
        override_config: Any = None,
    ) -> list[list[str]]:
        assert isinstance(audio, np.ndarray)
        assert (audio.dtype, audio.ndim, audio.flags.writeable) == (np.float32, 1, True)
        settings = None if postprocessing_yaml is None else yaml.safe_load(Path(postprocessing_yaml).read_text())
        self.asked.append({"sample_rate": sample_rate, "batch_size": batch_size, "settings": settings})
        if self.lines is not None:
            return self.lines
        parameters = settings["parameters"] if settings else {"onset": 0.5, "pad_onset": 0.0, "pad_offset": 0.0}
        active = self.probabilities(audio) > parameters["onset"]
        lines = []
        for speaker in range(4):
            column = np.diff(np.concatenate([[0], active[:, speaker].astype(int), [0]]))
            for start, end in zip(np.flatnonzero(column == 1), np.flatnonzero(column == -1), strict=True):
                times = start * 0.08 - parameters["pad_onset"], end * 0.08 + parameters["pad_offset"]
                lines.append(f"{times[0]:.2f} {times[1]:.2f} speaker_{speaker}")
        return [lines]

    def forward_streaming_step(
        self,
        processed_signal: torch.Tensor,
        processed_signal_length: torch.Tensor,
        streaming_state: int,
        total_preds: torch.Tensor,
        left_offset: int,
        right_offset: int,
    ) -> tuple[int, torch.Tensor]:
        assert processed_signal.shape == (1, int(processed_signal_length), 160)
        assert left_offset == (8 if streaming_state else 0)
        chunk = processed_signal[0, left_offset : len(processed_signal[0]) - right_offset]
        decided = torch.from_numpy(self.probabilities(chunk.flatten().numpy()))
        return streaming_state + 1, torch.cat([total_preds, decided[None]], dim=1)


class Preprocessor:
    """Feature frames that are the samples themselves, 160 each; what fills no whole frame is left out."""

    def __init__(self, normalize: str) -> None:
        self.featurizer = SimpleNamespace(hop_length=160, win_length=400, normalize=normalize)

    def __call__(self, *, input_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert (input_signal.dtype, input_signal.shape) == (torch.float32, (1, int(length)))
        frames = input_signal[:, : int(length) // 160 * 160].reshape(1, -1, 160).transpose(1, 2)
        return frames, torch.tensor([frames.shape[2]])


@pytest.fixture
def nemo(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """NeMo's place taken by the stand-in, which remembers what it was asked."""
    for name in ("nemo", "nemo.collections", "nemo.collections.asr", "nemo.collections.asr.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["nemo.collections.asr.models"], "SortformerEncLabelModel", StandIn, raising=False)
    for name, value in (("restored", []), ("asked", []), ("lines", None)):
        monkeypatch.setattr(StandIn, name, value, raising=False)
    return StandIn


@pytest.fixture(scope="module")
def adapter(family: Callable[[str], ModuleType]) -> ModuleType:
    return family("sortformer")


@pytest.fixture
def conversation() -> NDArray[np.float32]:
    """20 s: both speakers in turns, which begin and end at no border of frames, and silence."""
    signs = np.repeat([0, 1, -1, 0, 1, 1, -1, 0, -1, 1], 32000 + 700)[: 20 * 16000]
    return (0.1 * signs).astype(np.float32)


def built(adapter: ModuleType, spec: Any) -> Any:
    file = Path("online.nemo" if "latency" in spec.options else "whole.nemo")
    return getattr(adapter, spec.card.adapter.partition(":")[2])(weights={"model": file}, **spec.options)


def test_importing_the_adapter_imports_no_nemo(adapter: ModuleType) -> None:
    assert not [name for name in sys.modules if name.partition(".")[0] == "nemo"]


def test_the_family_is_the_one_intended() -> None:
    assert list(CARDS) == [
        "sortformer-4spk-v1",
        "sortformer-4spk-v1-callhome",
        "sortformer-4spk-v1-dihard3",
        "sortformer-4spk-v2",
        "sortformer-4spk-v2-callhome",
        "sortformer-4spk-v2-dihard3",
        "sortformer-4spk-v2.1",
    ]
    for name, card in CARDS.items():
        assert card.weights["model"].pinned
        assert card.weights["model"].licence == card.licence
        assert "4 speakers" in (card.description or "")
        assert card.trained_on
        # Settings that somebody tuned are said, with the data.
        assert bool(card.tuned_on) == ("callhome" in name or "dihard" in name)
        assert bool(card.tuned_on) == (card.options.get("postprocessing", "none") != "none")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_each_card_builds_its_model_and_runs(
    spec: Any, adapter: ModuleType, nemo: type[StandIn], conversation: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system = built(adapter, spec)
    (restored,) = nemo.restored
    assert (restored["map_location"], restored["strict"]) == (torch.device("cpu"), False)
    assert not system._model.training
    modules = system._model.sortformer_modules
    assert modules.checked == ("latency" in spec.options)
    if "latency" in spec.options:
        # The published latency is what a step hears of what is new.
        seconds = float(spec.options["latency"].removesuffix("s"))
        assert (modules.chunk_len + modules.chunk_right_context) * 0.08 == pytest.approx(seconds)
        assert modules.spkcache_len == 188
    turns = system.diarize(as_audio(conversation))
    assert turns.labels == ("speaker_0", "speaker_1")
    assert turns.ends.max() <= 20.0
    (asked,) = nemo.asked
    assert (asked["sample_rate"], asked["batch_size"]) == (16000, 1)
    assert (asked["settings"] is None) == (not spec.card.tuned_on)


def test_turns_are_those_that_nemo_gives(
    adapter: ModuleType, nemo: type[StandIn], conversation: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system = adapter.Sortformer(weights={"model": Path("a.nemo")})
    nemo.lines = [["0.00 1.52 speaker_0", "1.2, 3.04, speaker_1", "19.92 20.08 speaker_0"]]
    assert system.diarize(as_audio(conversation)) == Turns.of(
        [(0.0, 1.52, "speaker_0"), (1.2, 3.04, "speaker_1"), (19.92, 20.0, "speaker_0")]
    )
    nemo.lines = [[]]
    assert len(system.diarize(as_audio(conversation))) == 0


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([["0.00 1.52"]], r"gave '0\.00 1\.52', which is not 'start end speaker'"),
        ([["0.00 end speaker_0"]], r"'0\.00 end speaker_0'"),
        ([], r"0 lists of turns"),
        ([[], []], r"2 lists of turns"),
    ],
)
def test_answers_that_can_not_be_read(
    lines: list[list[str]], problem: str, adapter: ModuleType, nemo: type[StandIn], as_audio: AsAudio
) -> None:
    system = adapter.Sortformer(weights={"model": Path("a.nemo")})
    nemo.lines = lines
    with pytest.raises(AdapterError, match=problem):
        system.diarize(as_audio(np.zeros(16000)))


@pytest.mark.parametrize("latency", ["1.04s", "0.32s"])
def test_pieces_of_any_size_give_the_same_turns(
    latency: str, adapter: ModuleType, nemo: type[StandIn], conversation: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system = adapter.StreamingSortformer(weights={"model": Path("online.nemo")}, latency=latency)
    audio = as_audio(conversation)

    def pieces(size: int) -> list[Turn]:
        stream = system.open(audio.recording)
        turns = [
            turn for first in range(0, 320000, size) for turn in stream.push(audio.samples[:, first : first + size])
        ]
        return [*turns, *stream.finish()]

    even = pieces(round(system.chunk * 16000))
    assert pieces(777) == even
    assert Turns.of(pieces(320000)).labels == ("speaker_0", "speaker_1")
    # Joined at the borders of chunks, it is what the whole recording gives.
    whole, speakers = system.diarize(audio), ("speaker_0", "speaker_1")
    for speaker in speakers:
        said = np.zeros(251, dtype=int)
        for turn in even:
            if turn.speaker == speaker:
                said[round(turn.start / 0.08) : round(turn.end / 0.08)] += 1
        assert said.max() == 1
        expected = np.zeros(251, dtype=int)
        for turn in whole:
            if turn.speaker == speaker:
                expected[round(turn.start / 0.08) : round(turn.end / 0.08)] += 1
        np.testing.assert_array_equal(said, expected)


def test_diarbench_measures_the_latency(
    adapter: ModuleType, nemo: type[StandIn], conversation: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system = adapter.StreamingSortformer(weights={"model": Path("online.nemo")}, latency="1.04s")
    found = stream_through(system, [as_audio(conversation)], "cpu")
    assert (found["chunk"], found["look_ahead"]) == pytest.approx((0.48, 0.56))
    assert found["turns"] > 0


def test_without_nemo_there_is_one_clear_line(adapter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nemo", None)  # as if it were not installed, whether it is or not
    with pytest.raises(MissingRequirementError, match=r"needs NVIDIA NeMo.*pip install 'nemo-toolkit\[asr\]>=3\.0'"):
        adapter.Sortformer(weights={"model": Path("a.nemo")})


def test_models_of_the_other_kind(adapter: ModuleType, nemo: type[StandIn]) -> None:
    with pytest.raises(AdapterError, match=r"whole\.nemo is a model of whole recordings: take out its latency"):
        adapter.Sortformer(weights={"model": Path("whole.nemo")}, latency="0.32s")
    with pytest.raises(AdapterError, match=r"online\.nemo is a streaming model: give it a latency"):
        adapter.Sortformer(weights={"model": Path("online.nemo")})


def test_no_stream_normalises_over_a_whole_recording(
    adapter: ModuleType, nemo: type[StandIn], monkeypatch: pytest.MonkeyPatch, as_audio: AsAudio
) -> None:
    model = StandIn(streaming=True, normalize="per_feature")
    monkeypatch.setattr(StandIn, "restore_from", lambda **_: model)
    system = adapter.StreamingSortformer(weights={"model": Path("online.nemo")}, latency="0.32s")
    with pytest.raises(AdapterError, match=r"over the whole recording \(per_feature\)"):
        system.open(as_audio(np.zeros(16000)).recording)


def test_wrong_options(adapter: ModuleType, nemo: type[StandIn]) -> None:
    with pytest.raises(ValueError, match=r"latency must be one of 30\.4s, 10\.0s, 1\.04s, 0\.32s; got '1s'"):
        adapter.StreamingSortformer(weights={"model": Path("online.nemo")}, latency="1s")
    with pytest.raises(ValueError, match=r"postprocessing must be one of none, v1-dihard3-dev, .*; got 'dihard'"):
        adapter.Sortformer(weights={"model": Path("a.nemo")}, postprocessing="dihard")
    assert nemo.restored == []  # nothing was loaded for nothing


def test_another_sample_rate_is_refused(adapter: ModuleType, nemo: type[StandIn], as_audio: AsAudio) -> None:
    system = adapter.StreamingSortformer(weights={"model": Path("online.nemo")}, latency="0.32s")
    audio = as_audio(np.zeros(8000), rate=8000)
    for call in (system.diarize, lambda audio: system.open(audio.recording)):
        with pytest.raises(AdapterError, match=r"'some-recording' asks for 8000 Hz.*sample_rate"):
            call(audio)


def test_an_empty_recording_has_no_turns(adapter: ModuleType, nemo: type[StandIn], as_audio: AsAudio) -> None:
    system = adapter.StreamingSortformer(weights={"model": Path("online.nemo")}, latency="0.32s")
    audio = as_audio(np.zeros(0))
    assert len(system.diarize(audio)) == 0
    assert nemo.asked == []
    assert system.open(audio.recording).finish() == []


def test_what_is_counted(
    adapter: ModuleType, nemo: type[StandIn], conversation: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system = adapter.Sortformer(weights={"model": Path("a.nemo")})
    found = count_system(system.modules(), None, None)
    assert found is not None
    assert found.parameters_by_stage == {"diarization": 16}
    with measured_stages() as clock, CallRecorder(system.modules()).recording():
        system.diarize(as_audio(conversation))
    assert set(clock.seconds) == {"diarization"}


def test_check_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cards hold, whether NeMo is installed or not; without it, it is said what to install."""
    registry = Registry((shipped(),))
    for missing in ([], ["nemo-toolkit[asr]>=3.0"]):
        with monkeypatch.context() as patched:
            patched.setattr(checking, "missing_requirements", lambda _, missing=missing: missing)
            checks = checking.check_card(registry, "sortformer-*", run=False)
        assert len(checks) == len(SPECS)
        for check in checks:
            assert check.problem is None
            assert ("card, adapter, options and requirements hold" in check.summary) == (not missing)
            assert ("needs what is not installed: pip install 'nemo-toolkit[asr]>=3.0'" in check.summary) == bool(
                missing
            )
