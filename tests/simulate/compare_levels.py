"""How simulated recordings compare with AMI's train excerpts: levels, spectrum, decay. A script, not a test.

    DIARBENCH_DATA=... python tests/simulate/compare_levels.py

Prints 10 %, 50 % and 90 % quantiles over recordings, as the table of docs/simulating.md. Nothing is read of AMI's
development and test parts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarbench.audio import decode
from diarbench.cards import DatasetCard, read_card
from diarbench.loaders import find_root, load_dataset
from diarbench.registry import shipped
from diarbench.simulate import PRESETS, VariedTurns, simulate_dataset
from diarbench.types import Recording

RATE, FRAME, HOP = 16000, 512, 160
MADE = 60  # conversations of 20 s of each preset
NAMES = (
    "loud frames (95 %), dBFS",
    "quiet frames (5 %), dBFS",
    "loud over quiet, dB",
    "peak over loud, dB",
    "loud frames: 0.2-0.8 over 1-2 kHz, dB",
    "loud frames: 0.2-0.8 over 4-7.5 kHz, dB",
    "loud frames: 60-150 over 200-800 Hz, dB",
    "quiet frames: 0.2-0.8 over 1-2 kHz, dB",
    "steepest falls within 50 ms, dB",
)


def measure(samples: NDArray[np.float32]) -> list[float]:
    """The figures of NAMES for one recording, shape (samples,); digital silence is left out."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(float), FRAME)[::HOP]
    energy = np.mean(frames**2, axis=1)
    frames, level = frames[energy > 0], 10 * np.log10(energy[energy > 0])
    quiet, loud = np.quantile(level, (0.05, 0.95))
    of_loud, of_quiet = (
        _bands(frames[mask]) for mask in (level > np.quantile(level, 0.8), level < np.quantile(level, 0.1))
    )
    falls = level[5:] - level[:-5]
    return [
        loud,
        quiet,
        loud - quiet,
        20 * np.log10(np.abs(samples).max()) - loud,
        of_loud[1] - of_loud[2],
        of_loud[1] - of_loud[3],
        of_loud[0] - of_loud[1],
        of_quiet[1] - of_quiet[2],
        float(np.quantile(falls[level[:-5] > loud - 10], 0.05)),
    ]


def _bands(frames: NDArray[np.float64]) -> list[float]:
    """Level of 60-150, 200-800, 1000-2000 and 4000-7500 Hz, dB."""
    power = np.mean(np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2, axis=0)
    frequencies = np.fft.rfftfreq(FRAME, 1 / RATE)
    ranges = ((60, 150), (200, 800), (1000, 2000), (4000, 7500))
    return [10 * np.log10(power[(frequencies >= a) & (frequencies < b)].mean() + 1e-20) for a, b in ranges]


def quantiles(recordings: Iterable[Recording]) -> list[str]:
    """Of each figure, over recordings."""
    figures = np.array([measure(decode(recording).mono()) for recording in recordings])
    return ["/".join(f"{value:.0f}" for value in np.quantile(column, (0.1, 0.5, 0.9))) for column in figures.T]


def main() -> None:
    cards = shipped() / "datasets"
    ami = cards / "ami-excerpts-train.toml"
    loaded = load_dataset("ami-excerpts-train", ami, read_card(ami, DatasetCard))
    columns = {"AMI, train": quantiles(one.recording for one in loaded.recordings)}
    card = read_card(cards / "librispeech-simulated-train.toml", DatasetCard)
    assert card.simulate is not None
    speech = find_root("librispeech-simulated-train", card, cards, card.simulate.speech)
    with tempfile.TemporaryDirectory() as folder:
        for name, acoustics in PRESETS.items():
            if name == "meeting":
                continue
            made = simulate_dataset(
                speech,
                Path(folder, name),
                conversations=MADE,
                duration=20.0,
                speakers=(1, 4),
                seed=3,
                statistics=VariedTurns(),
                acoustics=acoustics,
                without=card.simulate.without,
            )
            paths = sorted((made.folder / "audio").iterdir())
            columns[name] = quantiles(Recording(path.stem, path, 20.0, RATE) for path in paths)
    print("| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for row, name in enumerate(NAMES):
        print(f"| {name} | " + " | ".join(values[row] for values in columns.values()) + " |")


if __name__ == "__main__":
    main()
