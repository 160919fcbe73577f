"""A small dataset on which small networks learn at once: speakers are tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from diarbench.cards import DatasetCard, read_card
from diarbench.loaders import Dataset, load_dataset
from diarbench.nn.structures import Convolution, Structure

RATE = 16000
TONES = (220.0, 700.0, 1800.0)  # Hz
STRUCTURE = Structure(
    convolutions=(Convolution(8, 400, 160), Convolution(8, 3, 2), Convolution(8, 3, 2), Convolution(8, 2, 2)),
    extractor_norm="group_norm",
    output_scale=False,
    normalize_waveform=False,
    width=16,
    position_kernel=4,
    position_groups=4,
    pre_norm=True,
    total_heads=2,
    buckets=8,
    max_distance=16,
    heads=((0, 1), (0, 1), (0, 1)),
    feed_forward=(64, 64, 64),
)
HEAD = {"units": 8, "feed_forward": 16, "heads": 2, "blocks": 1, "kernel": 3}


def make_data(root: Path, name: str, *, recordings: int = 4, seconds: float = 6.0, seed: int = 0) -> Path:
    """A folder of recordings with their references below `root`, and its card `root`/datasets/NAME.toml."""
    rng = np.random.default_rng(seed)
    folder = root / "data" / name
    (folder / "audio").mkdir(parents=True)
    lines = []
    for number in range(recordings):
        samples = rng.normal(0, 0.01, round(seconds * RATE))
        for speaker, tone in enumerate(TONES):
            start = 0.3 + rng.uniform(0, 0.4 * seconds)
            length = rng.uniform(0.2, 0.5) * seconds
            stop = min(start + length, seconds - 0.1)
            span = slice(round(start * RATE), round(stop * RATE))
            samples[span] += 0.2 * np.sin(2 * np.pi * tone * np.arange(span.stop - span.start) / RATE)
            lines.append(f"SPEAKER {name}{number} 1 {start:.3f} {stop - start:.3f} <NA> <NA> tone{speaker} <NA> <NA>")
        soundfile.write(folder / "audio" / f"{name}{number}.wav", samples, RATE)
    (folder / "reference.rttm").write_text("\n".join(lines) + "\n")
    (root / "datasets").mkdir(exist_ok=True)
    card = root / "datasets" / f"{name}.toml"
    card.write_text(
        f'title = "Tones"\nuem = "whole-file"\nlicence = "none"\nget = "made by a test"\nsynthetic = true\n'
        f'corpus = "{name.split("-")[0]}"\npart = "{name.split("-")[-1] if "-" in name else "train"}"\n\n'
        f'[folder]\nroot = "{folder}"\nreference = "reference.rttm"\n'
    )
    return card


def load(card: Path) -> Dataset:
    """The dataset of a card."""
    return load_dataset(card.stem, card, read_card(card, DatasetCard))
