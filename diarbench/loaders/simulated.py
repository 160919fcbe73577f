"""Conversations simulated from single-speaker speech, made once and kept in the cache."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from diarbench.cards import DatasetCard, Folder, Simulate
from diarbench.errors import InputError
from diarbench.fetch import cache_folder
from diarbench.files import digest_of
from diarbench.loaders.corpus import Corpus, OnProgress
from diarbench.loaders.folder import read_folder

_FIRST = {"speech", "conversations", "duration", "speakers", "seed"}  # named in each card


def read_simulated(speech: Path, card: DatasetCard, simulate: Simulate, on_progress: OnProgress | None) -> Corpus:
    """The conversations, from the cache or made now. Raises InputError."""
    if card.uem != "whole-file":
        raise InputError('simulated conversations are scored over the whole file: write uem = "whole-file"')
    from diarbench.simulate import VariedTurns, preset, shipped_statistics, simulate_dataset

    statistics = VariedTurns() if simulate.turns == "varied" else shipped_statistics()
    made = cache_folder() / "simulated" / _key(speech, simulate, statistics.digest)
    if not made.is_dir():
        simulate_dataset(
            speech,
            made,
            conversations=simulate.conversations,
            duration=simulate.duration,
            speakers=simulate.speakers,
            seed=simulate.seed,
            statistics=statistics,
            acoustics=preset(simulate.preset),
            only=simulate.only,
            without=simulate.without,
            speed=simulate.speed,
            on_progress=on_progress,
        )
    return read_folder(made, card, Folder(reference="reference.rttm"))


def _key(speech: Path, simulate: Simulate, statistics: str) -> str:
    """The name in the cache: another one where anything differs that conversations are made from."""
    from diarbench.simulate import preset
    from diarbench.simulate.dataset import REVISION

    files = sorted(path for path in speech.rglob("*") if path.is_file())
    identity: dict[str, Any] = {
        "simulator": REVISION,
        "statistics": statistics,
        "simulate": simulate.model_dump(mode="json", include=_FIRST) | simulate.added,
        "files": [[path.relative_to(speech).as_posix(), path.stat().st_size] for path in files],
    }
    if simulate.added:
        identity["acoustics"] = asdict(preset(simulate.preset))
    return digest_of(identity)[:16]
