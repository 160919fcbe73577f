"""Which datasets are on this machine: without decoding, downloading or making anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from diarbench.cards import LAYOUTS, DatasetCard, read_card
from diarbench.errors import CardError, InputError, MissingRequirementError
from diarbench.fetch import nothing_fetched
from diarbench.hub import cached, hub_cache
from diarbench.loaders import data_roots, find_root, read_corpus
from diarbench.loaders.corpus import Corpus, Signal

State: TypeAlias = Literal["here", "partly", "missing", "wrong"]


@dataclass(frozen=True, slots=True)
class Presence:
    """A dataset, and how much of it is here."""

    name: str
    title: str
    corpus: str | None
    part: str | None
    state: State  # "wrong": the card can't be read, or there are other recordings than it expects
    expected: int | None  # recordings that the card expects
    found: int  # recordings that are here with reference, scoring region and audio
    audio: bool  # whether it is a dataset with audio
    reason: str | None = None  # what is the first thing that lacks or is wrong; None where all is here
    get: str | None = None  # how to get it, in a line

    def as_json(self) -> dict[str, Any]:
        """As plain data; the keys are in docs/json.md."""
        return asdict(self)


def present(cards: Mapping[str, Path]) -> list[Presence]:
    """How much of each dataset is here; a card that can't be read is one of them and says so."""
    found = []
    for name, path in cards.items():
        try:
            found.append(presence(name, path, read_card(path, DatasetCard)))
        except CardError as error:
            found.append(Presence(name, "", None, None, "wrong", None, 0, False, str(error)))
    return found


def presence(name: str, path: Path, card: DatasetCard) -> Presence:
    """How much of a dataset is here. Raises nothing: what is wrong is its reason."""
    base = Presence(
        name, card.title, card.corpus, card.part, "missing", card.expect.recordings, 0, has_audio(card), get=card.get
    )
    folder = path.parent.resolve()
    if (lacking := _lacking_place(name, folder, card)) is not None:
        return replace(base, reason=lacking)
    if card.simulate is not None:  # made when it is first used
        return replace(base, state="here", found=card.simulate.conversations)
    try:
        with nothing_fetched():
            return _counted(base, card, read_corpus(name, folder, card))
    except MissingRequirementError as error:
        return replace(base, reason=str(error))
    except InputError as error:
        return replace(base, state="partly", reason=str(error))


def _lacking_place(name: str, folder: Path, card: DatasetCard) -> str | None:
    """What place a dataset would be at, where there is none."""
    if card.huggingface is not None and card.huggingface.hub is not None:
        hub, revision = card.huggingface.hub, str(card.huggingface.revision)
        if cached(hub_cache(), hub, revision, card.huggingface.files, "dataset") is None:
            return f"{hub} is not in the hub's cache ({hub_cache()})"
        return None
    layout = next(getattr(card, table) for table in LAYOUTS if getattr(card, table) is not None)
    root = layout.speech if card.simulate is not None else getattr(layout, "root", None)
    if root is None:
        return None
    try:
        find_root(name, card, folder, root)
    except MissingRequirementError:
        return f"no folder {root!r} beside its card or in {' or '.join(map(str, data_roots()))}"
    return None


def has_audio(card: DatasetCard) -> bool:
    """Whether a card promises audio."""
    return not any(layout is not None and layout.audio == "none" for layout in (card.folder, card.kaldi, card.pyannote))


def _counted(base: Presence, card: DatasetCard, corpus: Corpus) -> Presence:
    ids = sorted(corpus.references) if corpus.ids is None else list(corpus.ids)
    found, reason = 0, None
    for recording_id in ids:
        lacks = _lacks(corpus, card, recording_id)
        found += lacks is None
        reason = reason or lacks
    if card.select.recordings is not None:
        found = min(found, card.select.recordings)
    if reason is not None:
        # The id's reason alone does not say how many there are of its kind.
        return replace(base, state="partly" if found else "missing", found=found, reason=reason)
    if base.expected not in (None, found) and card.select.hours is None:
        fewer = found < (base.expected or 0)
        reason = f"{found} recordings in {corpus.list or corpus.reference}, the card expects {base.expected}"
        return replace(base, state="partly" if fewer else "wrong", found=found, reason=reason)
    return replace(base, state="here", found=found)


def _lacks(corpus: Corpus, card: DatasetCard, recording_id: str) -> str | None:
    """The first thing that a recording lacks."""
    if recording_id not in corpus.references and recording_id not in card.silent:
        return f"no reference of {recording_id} in {corpus.reference}"
    if corpus.uems is not None and recording_id not in corpus.uems:
        return f"no scoring region of {recording_id} in {corpus.uem}"
    if corpus.audio is None:
        return None
    source = corpus.audio.get(recording_id)
    if source is None:
        return f"no audio of {recording_id} in {corpus.where}"
    if isinstance(source, Signal) and not source.path.is_file():
        return f"no audio of {recording_id}: there is no {source.path}"
    return None
