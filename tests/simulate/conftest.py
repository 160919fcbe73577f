"""Speakers made of noise: four with utterances of bursts and pauses, in memory and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarbench.simulate import Utterance

RATE = 16000


def voice(name: str, seed: int, utterances: int = 8) -> list[Utterance]:
    """Utterances of one to four bursts of 0.2 to 3 s, 0.05 to 0.9 s apart, in digital silence."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(utterances):
        parts = [np.zeros(3200)]
        for _ in range(rng.integers(1, 5)):
            parts += [0.1 * rng.standard_normal(int(rng.uniform(0.2, 3.0) * RATE))]
            parts += [np.zeros(int(rng.uniform(0.05, 0.9) * RATE))]
        made.append(Utterance.of(f"{name}/{number}.flac", np.concatenate(parts).astype(np.float32)))
    return made


@pytest.fixture(scope="session")
def people() -> dict[str, list[Utterance]]:
    return {name: voice(name, seed) for seed, name in enumerate("ABCD")}


@pytest.fixture(scope="session")
def speech(people, tmp_path_factory) -> Path:
    """The same as files, one folder per speaker."""
    folder = tmp_path_factory.mktemp("speech")
    for name, utterances in people.items():
        (folder / name).mkdir()
        for utterance in utterances[:4]:
            soundfile.write(folder / utterance.id, utterance.samples, RATE)
    return folder
