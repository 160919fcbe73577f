"""Manifests of Lhotse: recordings with supervisions, or cuts of whole recordings. JSON, so that it takes no Lhotse.

What is read of them (Lhotse's documentation, "Representing a corpus" and "Cuts"):

    recording    id, sources (type, channels, source), sampling_rate, duration
    supervision  recording_id, start, duration, speaker
    cut          type, start, duration, channel, recording, supervisions with times from the cut's start
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from diarbench.cards import DatasetCard, Lhotse
from diarbench.errors import AudioError, RttmError, did_you_mean
from diarbench.loaders.channels import Part, combined
from diarbench.loaders.corpus import Corpus, Signal, Source
from diarbench.loaders.folder import read_card_uem, read_part
from diarbench.loaders.pipes import audio_of_command
from diarbench.rttm import check_id
from diarbench.types import MAX_TIME, Seconds, Turn, Turns

_LENGTH_TOLERANCE = Decimal("0.01")  # s, of a cut that is a whole recording
_MAX_TIME = Decimal(MAX_TIME)

Value = TypeVar("Value")


class _Place(NamedTuple):
    """What reading audio takes besides the manifest."""

    channel: str | int | None
    base: Path
    programs: tuple[str, ...]


def read_lhotse(root: Path, card: DatasetCard, manifests: Lhotse, base: Path) -> Corpus:
    """What the manifests say. Relative paths of audio begin at `base`. Raises InputError or RttmError."""
    place = _Place(card.channel, base, manifests.pipes)
    if manifests.cuts is not None:
        path = reference = root / manifests.cuts
        audio, turns = _read_cuts(path, place)
    else:
        assert manifests.recordings is not None
        assert manifests.supervisions is not None
        path, reference = root / manifests.recordings, root / manifests.supervisions
        audio = _read_recordings(path, place)
        turns = _read_supervisions(reference)
    part = read_part(root / manifests.list) if manifests.list is not None else None
    return Corpus(
        where=root,
        references={recording_id: Turns.of(rows) for recording_id, rows in turns.items()},
        reference=str(reference),
        audio=audio,
        uems=read_card_uem(root, card),
        uem=str(root / card.uem),
        ids=part if part is not None else sorted(audio),
        list=str(path if part is None else root / str(manifests.list)),
        is_part=part is not None,
        audio_hint=f"it is not in {path}",
    )


def read_manifest(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a .jsonl, .jsonl.gz, .json or .json.gz manifest, one at a time, each with where it stands.

    Numbers with decimals come as Decimal, as they were written. Raises RttmError.
    """
    lines = not path.name.removesuffix(".gz").endswith(".json")
    if path.name.removesuffix(".gz").endswith((".yaml", ".yml")):
        raise RttmError(
            path, None, "YAML manifests are not read; convert it: lhotse copy MANIFEST.yaml MANIFEST.jsonl.gz"
        )
    number = 0
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
            for number, line in enumerate(file if lines else [file.read()], start=1):
                if not line.strip():
                    continue
                value = json.loads(line.decode("utf-8-sig"), parse_float=Decimal)
                for place, item in enumerate([value] if lines else value, start=1):
                    where = f"{path}, line {number}" if lines else f"{path}, object {place}"
                    if not isinstance(item, dict):
                        raise RttmError(
                            where, None, "no JSON object; a manifest holds one per recording, segment or cut"
                        )
                    yield where, item
    except UnicodeDecodeError as error:
        raise RttmError(path, number, f"not UTF-8 text (byte {error.start} of the line)") from error
    except json.JSONDecodeError as error:
        raise RttmError(path, number, f"no JSON: {error.msg} (column {error.colno})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise RttmError(path, None, f"can't be read: {getattr(error, 'strerror', None) or error}") from error
    except (RecursionError, TypeError, ValueError) as error:  # too deep, no list, a number of thousands of digits
        raise RttmError(path, number, "no manifest of Lhotse") from error


def _read_recordings(path: Path, place: _Place) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for where, item in read_manifest(path):
        recording_id = check_id(_get(item, "id", str, where), where)
        if recording_id in found:
            raise RttmError(where, None, f"the recording id {recording_id!r} is there twice")
        found[recording_id] = _source(item, place, where)
    return found


def _read_supervisions(path: Path) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {}
    for where, item in read_manifest(path):
        recording_id = _get(item, "recording_id", str, where)
        if recording_id not in turns:
            turns[check_id(recording_id, where)] = []
        turns[recording_id] += _turn(item, where)
    return turns


def _read_cuts(path: Path, place: _Place) -> tuple[dict[str, Source], dict[str, list[Turn]]]:
    audio: dict[str, Source] = {}
    turns: dict[str, list[Turn]] = {}
    for where, item in read_manifest(path):
        kind = _get(item, "type", str, where)
        if kind not in ("MonoCut", "MultiCut"):
            raise RttmError(where, None, f"a {kind[:40]} is no recording; MonoCut and MultiCut are read")
        recording = _get(item, "recording", dict, where)
        recording_id = check_id(_get(recording, "id", str, where), where)
        if recording_id in audio:
            raise RttmError(where, None, f"there is another cut of the recording {recording_id!r}; one of each is read")
        start, length = _seconds(item, "start", where), _seconds(item, "duration", where)
        whole = _seconds(recording, "duration", where)
        if start != 0 or abs(length - whole) > _LENGTH_TOLERANCE:
            raise RttmError(
                where,
                None,
                f"the cut goes from {start} s to {start + length} s, the recording {recording_id!r} to {whole} s; only "
                "cuts of whole recordings are read (use the recordings and supervisions, and a UEM file)",
            )
        own = place.channel is None and kind == "MonoCut"
        chosen = place._replace(channel=_get(item, "channel", int, where)) if own else place
        audio[recording_id] = _source(recording, chosen, where)
        rows = [row for inner in _get(item, "supervisions", list, where) for row in _turn(inner, where)]
        if rows:
            turns[recording_id] = rows
    return audio, turns


def _turn(item: dict[str, Any], where: str) -> list[Turn]:
    """One turn; none where it has no length."""
    start, length = _seconds(item, "start", where), _seconds(item, "duration", where)
    speaker = _get(item, "speaker", str, where)
    if start < 0 or length < 0:
        raise RttmError(where, None, f"no segment starts at {start} s and is {length} s long")
    if speaker.split() != [speaker] or not speaker.isprintable():
        raise RttmError(where, None, f"the speaker name {speaker[:60]!r} is empty or holds white space")
    return [Turn(float(start), float(start + length), speaker)] if length > 0 else []


def _source(recording: dict[str, Any], place: _Place, where: str) -> Source:
    """Which files of a recording make the signal, by the channel rule."""
    if recording.get("transforms"):
        raise RttmError(
            where, None, "the recording has `transforms`, which are not done here; write the audio to files"
        )
    rate = int(_get(recording, "sampling_rate", int, where))
    duration = float(_seconds(recording, "duration", where))
    sources = _get(recording, "sources", list, where)
    parts: dict[int, tuple[dict[str, Any], int, int]] = {}  # by channel: its source, place in it, how many it has
    for source in sources:
        channels = _get(source, "channels", list, where)
        for index, channel in enumerate(channels):
            if type(channel) is not int or channel in parts:
                raise RttmError(where, None, f"the channel {channel!r} is there twice, or no number")
            parts[channel] = (source, index, len(channels))
    if not parts:
        raise RttmError(where, None, "the recording has no `sources` with `channels`")
    if isinstance(place.channel, int) and place.channel not in parts:
        raise AudioError(f"{where}: the recording has the channels {sorted(parts)}; {place.channel} is asked for")
    if place.channel is None and len(sources) > 1:
        raise AudioError(
            f"{where}: the recording has {len(parts)} channels, and the dataset card names no channel rule; add "
            'channel = "first", "mix" (their mean) or a number to the card'
        )
    if place.channel == "mix" and len(sources) > 1:
        return partial(_mix, [parts[channel] for channel in sorted(parts)], place, where, rate, duration)
    wanted = min(parts) if place.channel in ("first", "mix", None) else int(place.channel or 0)
    source, index, held = parts[wanted]
    rule = place.channel if place.channel in ("mix", None) else None if held == 1 else index
    return _one_file(source, place, where, rule, rate, duration)


def _one_file(
    source: dict[str, Any], place: _Place, where: str, rule: str | int | None, rate: int, duration: Seconds
) -> Source:
    kind, text = _get(source, "type", str, where), _get(source, "source", str, where)
    if kind == "file":
        return Signal(place.base / text, rule, rate, duration)
    if kind == "command":
        return partial(_of_command, text, place, where, rule, rate, duration)
    raise RttmError(where, None, f"audio of the type {kind[:40]!r} is not read; `file` and `command` are")


def _of_command(text: str, place: _Place, where: str, rule: str | int | None, rate: int, duration: Seconds) -> Signal:
    return Signal(audio_of_command(text, place.programs, place.base, where), rule, rate, duration)


def _mix(
    parts: list[tuple[dict[str, Any], int, int]], place: _Place, where: str, rate: int, duration: Seconds
) -> Signal:
    """The channels of several files, in one file of the cache."""
    files = []
    for source, index, _ in parts:
        one = _one_file(source, place, where, None, rate, duration)
        files.append(Part((one if isinstance(one, Signal) else one()).path, index))
    return Signal(combined(files), "mix", rate, duration)


def _get(item: Mapping[str, Any], key: str, kind: type[Value], where: str) -> Value:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        shown = (
            [name for name in item if isinstance(name, str) and name.isprintable()] if isinstance(item, dict) else []
        )
        problem = f"is no {_WORDS[kind]}" if key in shown else f"is missing{did_you_mean(key, shown)}"
        raise RttmError(where, None, f"the key {key!r} {problem}")
    return value


_WORDS: Mapping[type, str] = {str: "text", int: "whole number", dict: "object", list: "list"}


def _seconds(item: Mapping[str, Any], key: str, where: str) -> Decimal:
    value = item.get(key) if isinstance(item, dict) else None
    number = Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
    if number is None or not abs(number) <= _MAX_TIME:
        raise RttmError(where, None, f"the key {key!r} is no number of seconds")
    return number
