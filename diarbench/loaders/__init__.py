"""Datasets from cards: recordings with their references and scoring regions, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diarbench.cards import DatasetCard
from diarbench.errors import InputError, MissingRequirementError
from diarbench.files import digest_of
from diarbench.rttm import format_rttm, format_uem
from diarbench.types import LabelledRecording, Seconds


@dataclass(frozen=True)
class Dataset:
    """A dataset that is here and holds together."""

    name: str
    card: DatasetCard
    recordings: tuple[LabelledRecording, ...]
    notes: tuple[str, ...] = ()  # what was passed over, in words

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids, references, scoring regions, channel rule and sample rate.

        Two versions of a corpus differ in it, and never share a column. What the audio files hold is recorded
        per result instead, since hashing a corpus takes hours.
        """
        return digest_of(
            {
                "reference": [format_rttm(r.recording.id, r.reference, digits=6) for r in self.recordings],
                "uem": format_uem({r.recording.id: r.uem for r in self.recordings}),
                "recordings": [r.recording.id for r in self.recordings],
                "channel": self.card.channel,
                "sample_rate": self.card.sample_rate,
            }
        )

    @property
    def duration(self) -> Seconds:
        """Length of all recordings (s)."""
        return sum(r.recording.duration for r in self.recordings)

    @property
    def facts(self) -> dict[str, Any]:
        """What a page says of the dataset."""
        keep = {
            "title",
            "licence",
            "get",
            "source",
            "description",
            "synthetic",
            "channel",
            "sample_rate",
            "uem",
            "rules",
        }
        return self.card.model_dump(mode="json", include=keep, exclude_none=True)


def load_dataset(
    name: str, path: Path, card: DatasetCard, on_progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """The dataset of a card, made first where the card says [simulate].

    Raises MissingRequirementError where the data is not on this machine (with the card's `get` line), InputError
    where it is there but doesn't hold together: the first problem, with its file and line.
    """
    from diarbench.loaders.folder import load_folder
    from diarbench.loaders.simulated import load_simulated
    from diarbench.loaders.wheel import load_wheel

    folder = path.parent.resolve()
    notes: tuple[str, ...] = ()
    if card.folder is not None:
        recordings, notes = load_folder(find_root(name, card, folder, card.folder.root), card, card.folder)
    elif card.wheel is not None:
        recordings = load_wheel(card, card.wheel)
    else:
        assert card.simulate is not None
        recordings = load_simulated(
            find_root(name, card, folder, card.simulate.speech), card, card.simulate, on_progress
        )
    if not recordings:
        raise InputError(f"dataset {name}: no recordings")
    return Dataset(name, card, tuple(recordings), notes)


def data_roots() -> list[Path]:
    """Folders that corpora are looked for in: $DIARBENCH_DATA (several, parted as in $PATH), else ./data and
    ../shared/data."""
    if given := os.environ.get("DIARBENCH_DATA"):
        return [Path(os.path.expanduser(part)) for part in given.split(os.pathsep) if part]
    return [Path("data"), Path("..", "shared", "data")]


def find_root(name: str, card: DatasetCard, card_folder: Path, root: str) -> Path:
    """A dataset's folder: absolute, beside its card, or in one of the data folders."""
    wanted = Path(os.path.expanduser(root))  # unlike Path.expanduser, it leaves the ~ of an unknown user
    places = [wanted] if wanted.is_absolute() else [base / wanted for base in (card_folder, *data_roots())]
    for place in places:
        if place.is_dir():
            return place
    looked_in = os.pathsep.join(map(str, data_roots()))
    raise MissingRequirementError(
        f"dataset {name} is not here: no folder {root!r} beside its card or in {looked_in} "
        f"(set DIARBENCH_DATA to where it lies); to get it: {card.get}"
    )
