"""Adapters from the files beside their cards, the weights that the cards name, and real samples."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from diarbench.types import Audio, Recording

CHECKOUT = Path(__file__).resolve().parents[2]
for place in ("systems", "pipelines", "nn"):  # made_up_weights.py, random_networks.py, small_networks.py
    sys.path.insert(0, str(CHECKOUT / "tests" / place))


@pytest.fixture(scope="session")
def family() -> Callable[[str], ModuleType]:
    """The adapter module of a family, loaded from its file."""

    def load(name: str) -> ModuleType:
        path = CHECKOUT / "systems" / name / "adapter.py"
        spec = importlib.util.spec_from_file_location(f"adapter_of_{name.replace('-', '_')}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look there for their own module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def speech() -> NDArray[np.float32]:
    """Half a minute of a conversation at 16 kHz, shape (480000,)."""
    samples, rate = soundfile.read(CHECKOUT / "datasets" / "voices" / "audio" / "voices01.opus", dtype="float32")
    assert rate == 16000
    return samples[: 30 * rate]


@pytest.fixture(scope="session")
def as_audio() -> Callable[..., Audio]:
    """Samples (samples,) as a recording that a system is handed: read-only, one channel."""

    def make(samples: NDArray[np.float32], rate: int = 16000) -> Audio:
        signal = np.array(samples, dtype=np.float32)[None]
        signal.flags.writeable = False
        return Audio(Recording("some-recording", None, signal.shape[1] / rate, rate), signal)

    return make
