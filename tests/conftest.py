"""What many tests need: small audio files, a folder of cards, and the folder of real data where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings
from numpy.typing import NDArray

from diarbench.cards import SystemCard, read_card
from diarbench.errors import MissingRequirementError
from diarbench.fetch import wheel_member

# The same examples every time, however slow the machine; --hypothesis-profile=explore looks for new ones.
settings.register_profile("stable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=3000, deadline=None)
settings.load_profile("stable")

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $DIARBENCH_DATA, or ../shared/data beside the checkout."""
    places = [Path(part) for part in os.environ.get("DIARBENCH_DATA", "").split(os.pathsep) if part]
    for place in [*places, CHECKOUT.parent / "shared" / "data"]:
        if (place / "published").is_dir():
            return place
    pytest.skip("no folder with published/ in $DIARBENCH_DATA or ../shared/data")


@pytest.fixture
def write_audio() -> Callable[..., NDArray[np.float64]]:
    """Write a file of seeded noise at a tenth of full scale; gives the samples, (samples,) or (samples, channels)."""

    def write(
        path: Path, *, seconds: float = 1.0, rate: int = 16000, channels: int = 1, seed: int = 0, **how: str
    ) -> NDArray[np.float64]:
        shape = (round(seconds * rate), channels)
        samples = np.clip(0.1 * np.random.default_rng(seed).standard_normal(shape), -1, 1)
        samples = samples[:, 0] if channels == 1 else samples
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(str(path), samples, rate, **how)
        return samples

    return write


@pytest.fixture
def write_tone() -> Callable[..., None]:
    """Write a sine of a known level, so that what decoding does to level and pitch can be seen."""

    def write(path: Path, *, seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5, **how: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        times = np.arange(round(seconds * rate)) / rate
        soundfile.write(str(path), level * np.sin(2 * np.pi * hertz * times), rate, **how)

    return write


@dataclass(frozen=True)
class CardRoot:
    """A folder with systems/, datasets/ and reports/, to write cards into."""

    path: Path

    def system(self, name: str, text: str = 'title = "A system"\nadapter = "./adapter.py:System"\n') -> Path:
        """A system card; `name` may have a family in front of it ("family/name")."""
        return self._write("systems", name, text)

    def dataset(self, name: str, text: str) -> Path:
        return self._write("datasets", name, text)

    def report(self, name: str, text: str) -> Path:
        return self._write("reports", name, text)

    def _write(self, kind: str, name: str, text: str) -> Path:
        path = self.path / kind / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def cards(tmp_path: Path) -> CardRoot:
    """An empty folder of cards."""
    return CardRoot(tmp_path / "cards")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, empty."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("DIARBENCH_CACHE", str(cache))
    return cache


@pytest.fixture(scope="session")
def weights() -> dict[str, Path]:
    """Local paths of the published weights "vad" and "embedding", as the built-in systems' cards name them."""
    card = read_card(CHECKOUT / "systems" / "silero-ge2e" / "silero-ge2e.toml", SystemCard)
    try:
        return {
            name: wheel_member(str(source.wheel), str(source.member), str(source.sha256))
            for name, source in card.weights.items()
        }
    except MissingRequirementError as error:
        pytest.skip(f"the published weights can't be had: {error}")
