"""The published weights that the built-in systems' cards name, and real samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from diarbench.cards import SystemCard, read_card
from diarbench.errors import MissingRequirementError
from diarbench.fetch import wheel_member

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def weights() -> dict[str, Path]:
    """Local paths of "vad" and "embedding"."""
    card = read_card(CHECKOUT / "systems" / "silero-ge2e" / "silero-ge2e.toml", SystemCard)
    try:
        return {
            name: wheel_member(str(source.wheel), str(source.member), str(source.sha256))
            for name, source in card.weights.items()
        }
    except MissingRequirementError as error:
        pytest.skip(f"the published weights can't be had: {error}")


@pytest.fixture(scope="session")
def speech() -> NDArray[np.float32]:
    """Twelve seconds of a conversation at 16 kHz, shape (192000,)."""
    samples, rate = soundfile.read(CHECKOUT / "datasets" / "voices" / "audio" / "voices01.opus", dtype="float32")
    assert rate == 16000
    return samples[: 12 * rate]
