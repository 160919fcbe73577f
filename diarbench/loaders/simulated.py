"""Conversations simulated from single-speaker speech, made once and kept in the cache."""

from __future__ import annotations

from pathlib import Path

from diarbench.cards import DatasetCard, Folder, Simulate
from diarbench.errors import InputError
from diarbench.fetch import cache_folder
from diarbench.files import digest_of
from diarbench.loaders.corpus import Corpus, OnProgress
from diarbench.loaders.folder import read_folder


def read_simulated(speech: Path, card: DatasetCard, simulate: Simulate, on_progress: OnProgress | None) -> Corpus:
    """The conversations, from the cache or made now. Raises InputError."""
    if card.uem != "whole-file":
        raise InputError('simulated conversations are scored over the whole file: write uem = "whole-file"')
    from diarbench.simulate import shipped_statistics, simulate_dataset
    from diarbench.simulate.dataset import REVISION

    statistics = shipped_statistics()
    files = sorted(path for path in speech.rglob("*") if path.is_file())
    identity = {
        "simulator": REVISION,
        "statistics": statistics.digest,
        "simulate": simulate.model_dump(mode="json"),
        "files": [[path.relative_to(speech).as_posix(), path.stat().st_size] for path in files],
    }
    made = cache_folder() / "simulated" / digest_of(identity)[:16]
    if not made.is_dir():
        simulate_dataset(
            speech,
            made,
            conversations=simulate.conversations,
            duration=simulate.duration,
            speakers=simulate.speakers,
            seed=simulate.seed,
            statistics=statistics,
            on_progress=on_progress,
        )
    return read_folder(made, card, Folder(reference="reference.rttm"))
