"""What tests of pipelines share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))  # random_networks.py


@pytest.fixture(scope="session")
def plda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random PLDA model."""
    from random_networks import random_plda

    return random_plda(tmp_path_factory.mktemp("plda"))


@pytest.fixture(scope="session")
def ami_files(shared_data: Path) -> list[Path]:
    """The AMI excerpts."""
    files = sorted((shared_data / "ami-excerpts").glob("*.flac"))
    if not files:
        pytest.skip("no ami-excerpts/ beside the published outputs")
    return files


@pytest.fixture(scope="session")
def ami(ami_files: list[Path]) -> Callable[[int, float], NDArray[np.float32]]:
    """Real meetings: the n-th of the AMI excerpts, repeated and cut to so many seconds."""

    def read(number: int, seconds: float) -> NDArray[np.float32]:
        samples, rate = soundfile.read(ami_files[number], dtype="float32", always_2d=True)
        assert rate == 16000
        return np.resize(samples[:, 0], round(seconds * rate))

    return read
