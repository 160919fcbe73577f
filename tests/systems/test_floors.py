"""The floors: what they answer, and that two of them need no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from diarbench.errors import AdapterError
from diarbench.rttm import merge_spans
from diarbench.types import Audio, Turns

ADAPTER = Path(__file__).resolve().parents[2] / "systems" / "floors" / "adapter.py"


def test_silence_and_one_speaker(family: Callable[[str], ModuleType], as_audio: Callable[..., Audio]) -> None:
    audio = as_audio(np.zeros(24000))
    floors = family("floors")
    assert len(floors.Silence().diarize(audio)) == 0
    assert floors.OneSpeaker().diarize(audio) == Turns.of([(0.0, 1.5, "speaker1")])
    assert len(floors.OneSpeaker().diarize(as_audio(np.zeros(0)))) == 0


def test_vad_only_has_the_speech_of_the_baseline(
    family: Callable[[str], ModuleType],
    weights: dict[str, Path],
    speech: NDArray[np.float32],
    as_audio: Callable[..., Audio],
) -> None:
    audio = as_audio(speech)
    floor = family("floors").VadOnly(weights={"vad": weights["vad"]})
    turns = floor.diarize(audio)
    assert turns.labels == ("speaker1",)
    baseline = family("silero-ge2e").SileroGe2e(weights=weights).diarize(audio)
    found, expected = merge_spans((t.start, t.end) for t in turns), merge_spans((t.start, t.end) for t in baseline)
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-9)
    assert list(floor.modules()) == ["vad"]
    with pytest.raises(AdapterError, match="asks for 8000 Hz"):
        floor.diarize(as_audio(speech[::2], rate=8000))


def test_floors_without_networks_need_no_torch() -> None:
    code = f"import runpy, sys; runpy.run_path({str(ADAPTER)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
