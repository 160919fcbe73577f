"""Datasets from cards: recordings with their references and scoring regions, checked before anything runs.

    folder       plain folders                      kaldi        data directories of Kaldi
    pyannote     protocols of pyannote.database     lhotse       manifests of Lhotse
    huggingface  parquet files with audio inside    wheel        one recording in a wheel on PyPI
    simulated    conversations made here

Each module gives a `Corpus`, which `corpus.labelled` makes into recordings; the one that a card asks for is imported.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diarbench.cards import DatasetCard
from diarbench.errors import InputError, MissingRequirementError
from diarbench.loaders.corpus import Corpus, OnProgress, labelled
from diarbench.loaders.facts import digest_of_parts, mismatches
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
        """SHA-256 of ids, references, scoring regions, channel rule and sample rate, whatever their order; of simulated
        conversations also how they are recorded.

        Two versions of a corpus differ in it, and never share a column. What the audio files hold is recorded
        per result instead, since hashing a corpus takes hours.
        """
        recordings = sorted(self.recordings, key=lambda one: one.recording.id)
        few: dict[str, Any] = {
            "uem": format_uem({r.recording.id: r.uem for r in recordings}),
            "recordings": [r.recording.id for r in recordings],
            "channel": self.card.channel,
            "sample_rate": self.card.sample_rate,
        }
        if self.card.simulate is not None and self.card.simulate.added:
            # Rooms and noise are not in a reference. Cards that say nothing of them keep the digests they have had.
            few["simulate"] = self.card.simulate.added
        # As one object with the references in it, which are never held all at once.
        return digest_of_parts(
            few, "reference", (format_rttm(r.recording.id, r.reference, digits=6) for r in recordings)
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
            "corpus",
            "part",
            "source",
            "description",
            "synthetic",
            "channel",
            "sample_rate",
            "uem",
            "rules",
        }
        return self.card.model_dump(mode="json", include=keep, exclude_none=True)


def load_dataset(name: str, path: Path, card: DatasetCard, on_progress: OnProgress | None = None) -> Dataset:
    """The dataset of a card, made first where the card says [simulate]; `on_progress` is told how many of how many
    conversations are made, then how many recordings are found and checked.

    Raises MissingRequirementError where the data, or a package that reads its layout, is not on this machine;
    InputError where it is there but doesn't hold together: the first problem, with its file and line.
    """
    recordings, notes = labelled(read_corpus(name, path.parent.resolve(), card, on_progress), card, on_progress)
    if not recordings:
        raise InputError(f"dataset {name}: no recordings")
    if card.expect.reference_sha256 is not None and (said := mismatches(recordings, card.expect)):
        raise InputError(f"dataset {name}: {'; '.join(said)}")
    return Dataset(name, card, tuple(recordings), notes)


def read_corpus(name: str, folder: Path, card: DatasetCard, on_progress: OnProgress | None = None) -> Corpus:
    """What the layout of a card says, before audio is looked at; `folder` is where the card lies.

    Raises as `load_dataset`.
    """

    def find(root: str) -> Path:
        return find_root(name, card, folder, root)

    if card.kaldi is not None:
        from diarbench.loaders.kaldi import read_kaldi

        root = find(card.kaldi.root)
        return read_kaldi(root, card, card.kaldi, root if card.kaldi.base is None else find(card.kaldi.base))
    if card.pyannote is not None:
        from diarbench.loaders.pyannote import read_pyannote

        return read_pyannote(find(card.pyannote.root), card, card.pyannote)
    if card.lhotse is not None:
        from diarbench.loaders.lhotse import read_lhotse

        root = find(card.lhotse.root)
        return read_lhotse(root, card, card.lhotse, root if card.lhotse.base is None else find(card.lhotse.base))
    if card.huggingface is not None:
        from diarbench.loaders.huggingface import fetch_dataset, read_huggingface

        hub = card.huggingface.hub
        root = find(card.huggingface.root) if hub is None else fetch_dataset(card.huggingface)
        return read_huggingface(root, card, card.huggingface)
    if card.wheel is not None:
        from diarbench.loaders.wheel import read_wheel

        return read_wheel(card, card.wheel)
    if card.simulate is not None:
        from diarbench.loaders.simulated import read_simulated

        return read_simulated(find(card.simulate.speech), card, card.simulate, on_progress)
    from diarbench.loaders.folder import read_folder

    assert card.folder is not None
    return read_folder(find(card.folder.root), card, card.folder)


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
    looked_in = " or ".join(map(str, data_roots()))
    raise MissingRequirementError(
        f"dataset {name} is not here: no folder {root!r} beside its card or in {looked_in} "
        f"(set DIARBENCH_DATA to where it lies); to get it: {card.get}"
    )
