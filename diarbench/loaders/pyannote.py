"""Protocols of pyannote.database, from a user's database.yml as it is; read by pyannote.database itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from diarbench.cards import DatasetCard, Pyannote
from diarbench.errors import InputError, MissingRequirementError, did_you_mean
from diarbench.loaders.corpus import Corpus, Signal, Source, exact_time
from diarbench.loaders.folder import read_card_uem, read_part
from diarbench.rttm import check_id, merge_spans
from diarbench.types import Spans, Turns


def read_pyannote(root: Path, card: DatasetCard, protocol: Pyannote) -> Corpus:
    """What a protocol says of one subset. Audio is found by the `Databases` of the file; `uem = "layout"` takes the
    protocol's `annotated`.

    pyannote.database gives an empty annotation where an RTTM file lacks a recording, so that a recording without turns
    counts as one without reference, unless the card names it as silent. Raises InputError, in one line, for whatever
    pyannote.database raises; MissingRequirementError where it is not installed.
    """
    database = root / protocol.database
    named = f"{database} ({protocol.protocol}, {protocol.subset})"
    files, find_audio = _open(database, protocol, named)
    references: dict[str, Turns] = {}
    uems: dict[str, Spans] | None = {} if card.uem == "layout" else read_card_uem(root, card)
    audio: dict[str, Source] = {}
    ids: dict[str, None] = {}
    for file in files:
        if not file["uri"]:  # an empty line of the list
            continue
        recording_id = check_id(str(file["uri"]), named)
        if recording_id in ids:
            raise InputError(f"{named}: the recording id {recording_id!r} is there twice")
        ids[recording_id] = None
        if turns := _turns(file, recording_id, named):
            references[recording_id] = turns
        if card.uem == "layout" and uems is not None and (spans := _spans(file, recording_id, named)):
            uems[recording_id] = spans
        audio[recording_id] = partial(_signal, find_audio, file, card.channel, named)
    part = read_part(root / protocol.list) if protocol.list is not None else None
    return Corpus(
        where=root,
        references=references,
        reference=f"{named}, annotation",
        audio=audio if protocol.audio == "database" else None,
        uems=uems,
        uem=f"{named}, annotated" if card.uem == "layout" else str(root / card.uem),
        ids=part if part is not None else list(ids),
        list=named if protocol.list is None else str(root / protocol.list),
        is_part=part is not None,
    )


def _open(database: Path, protocol: Pyannote, named: str) -> tuple[Iterator[Any], Callable[[Any], Any]]:
    """The files of the subset, and what finds the audio of one."""
    try:
        from pyannote.database import FileFinder
        from pyannote.database import registry as everywhere
        from pyannote.database.registry import Registry
    except ImportError as error:
        raise MissingRequirementError(
            f"{database}: protocols need pyannote.database: pip install 'diarbench[pyannote]'"
        ) from error
    # A registry of our own knows no protocol of another file; but X protocols look theirs up in the common one.
    registry = everywhere if protocol.protocol.startswith("X.") else Registry()
    if not database.is_file():
        raise InputError(f'{database}: there is no such file; name it in the card: database = "..." under [pyannote]')
    # It prints that speaker labels have no `scope`, which no score depends on; our standard output may be JSON.
    with _one_line(str(database)), redirect_stdout(StringIO()):
        registry.load_database(database)
        known = list(registry)
    if protocol.protocol not in known:
        raise InputError(f"{database}: no protocol {protocol.protocol!r}{did_you_mean(protocol.protocol, known)}")
    try:
        # Not the subset's own method: it cuts the annotation at `annotated`, which are not the references as written.
        files = list(getattr(registry.get_protocol(protocol.protocol), f"{protocol.subset}_iter")())
    except (AttributeError, NotImplementedError) as error:
        raise InputError(f"{database}: the protocol {protocol.protocol} has no {protocol.subset!r}") from error
    except Exception as error:
        raise InputError(f"{named}: {_first_line(error)}") from error
    return iter(files), FileFinder(registry=registry)


def _turns(file: Any, recording_id: str, named: str) -> Turns:
    with _one_line(f"{named}, {recording_id}"):
        annotation = file["annotation"]
        rows = list(annotation.itertracks(yield_label=True))
    for _, _, label in rows:
        if not isinstance(label, str):
            raise InputError(
                f"{named}, {recording_id}: pyannote.database reads a speaker's name as {label!r}; names such as NA and "
                "nan are none to it: rename the speaker, or use [folder] or [kaldi]"
            )
    return Turns.of((exact_time(segment.start), exact_time(segment.end), label) for segment, _, label in rows)


def _spans(file: Any, recording_id: str, named: str) -> Spans:
    try:
        timeline = file["annotated"]
    except KeyError as error:
        raise InputError(
            f'{named}: uem = "layout", but the protocol has no `annotated`; add it to the file, or name a UEM file in '
            "the card"
        ) from error
    except Exception as error:
        raise InputError(f"{named}, {recording_id}: {_first_line(error)}") from error
    return merge_spans((exact_time(segment.start), exact_time(segment.end)) for segment in timeline)


def _signal(find_audio: Callable[[Any], Any], file: Any, channel: str | int | None, named: str) -> Signal:
    with _one_line(f"{named}, audio"):
        return Signal(Path(find_audio(file)), channel)


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Whatever pyannote.database raises, as an InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{where}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What an error of many kinds says, in a line."""
    if isinstance(error, UnicodeDecodeError):
        return f"not a UTF-8 text file (byte {error.start})"
    text = " ".join(part.strip() for part in str(error).splitlines() if part.strip())
    if isinstance(error, KeyError):
        text = f"there is no {text}"
    return f"{text[:300] or type(error).__name__}"
