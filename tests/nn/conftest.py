"""Real samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def speech() -> NDArray[np.float32]:
    """Twelve seconds of a conversation at 16 kHz, shape (192000,)."""
    samples, rate = soundfile.read(CHECKOUT / "datasets" / "voices" / "audio" / "voices01.opus", dtype="float32")
    assert rate == 16000
    return samples[: 12 * rate]
