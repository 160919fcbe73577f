"""Data directories of Kaldi: wav.scp, rttm, segments, utt2spk, reco2dur and a UEM.

A line of wav.scp is `id path`, or `id program arguments |`, whose output is the audio; see `pipes`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from diarbench.cards import DatasetCard, Kaldi
from diarbench.errors import InputError, RttmError
from diarbench.loaders.corpus import Corpus, Signal, Source
from diarbench.loaders.folder import References, read_card_uem, read_part, read_reference_files
from diarbench.loaders.pipes import audio_of_command
from diarbench.rttm import check_id, read_lines, read_seconds
from diarbench.types import Seconds, Turn, Turns


def read_kaldi(root: Path, card: DatasetCard, kaldi: Kaldi, base: Path) -> Corpus:
    """What a data directory says. Relative paths in wav.scp, and the programs that it may run, begin at `base`.

    Recordings are those of wav.scp, or of the card's part list; each needs a reference. Raises InputError or RttmError.
    """
    if kaldi.reference == "segments":
        references, named = References(read_segments(root), {}), f"{root / 'segments'} with utt2spk"
    else:
        place = root / kaldi.reference
        if not place.exists() and (root / "segments").is_file():
            raise InputError(
                f"{place}: there is no such file; to take the references from segments and utt2spk, write reference = "
                '"segments" under [kaldi]'
            )
        references, named = read_reference_files(place), str(place)
    audio = None if kaldi.audio == "none" else read_scp(root / kaldi.audio, card, kaldi, base, _durations(root))
    part = read_part(root / kaldi.list) if kaldi.list is not None else None
    return Corpus(
        where=root,
        references=references.turns,
        files=references.files,
        reference=named,
        audio=audio,
        uems=read_card_uem(root, card),
        uem=str(root / card.uem),
        ids=part if part is not None else sorted(audio) if audio is not None else None,
        list=str(root / (kaldi.list if kaldi.list is not None else kaldi.audio)),
        is_part=part is not None,
        audio_hint=f"there is no line of it in {root / kaldi.audio}",
    )


def read_scp(
    path: Path, card: DatasetCard, kaldi: Kaldi, base: Path, durations: dict[str, Seconds]
) -> dict[str, Source]:
    """The audio of each recording. Raises RttmError for a line that can't be used, or an id that is there twice."""
    found: dict[str, Source] = {}
    lines: dict[str, int] = {}
    for number, (line,) in read_lines(path, whole=True):
        words = line.split(None, 1)
        recording_id = check_id(words[0], path, number)
        if len(words) < 2:
            raise RttmError(path, number, "no path; a line of wav.scp is `id path`, or `id program arguments |`")
        _note_line(lines, recording_id, path, number)
        promised = durations.get(recording_id)
        if words[1].endswith("|"):
            where = f"{path}, line {number}"
            command = words[1][:-1]
            found[recording_id] = partial(_piped, command, kaldi.pipes, base, where, card.channel, promised)
        elif ".ark:" in words[1] or words[1] == "-":
            raise RttmError(path, number, f"{words[1][:60]!r} is no audio file: archives are not read")
        else:
            found[recording_id] = Signal(base / words[1], card.channel, duration=promised)
    return found


def read_segments(root: Path) -> dict[str, Turns]:
    """References by recording id, from `segments` (utterance recording start end) and `utt2spk` (utterance speaker).

    Raises RttmError for a line that can't be used, or an utterance that only one of them has.
    """
    speakers: dict[str, str] = {}
    lines: dict[str, int] = {}
    path = root / "utt2spk"
    for number, fields in read_lines(path):
        if len(fields) != 2:
            raise RttmError(path, number, f"{len(fields)} columns; a line of utt2spk is `utterance speaker`")
        _note_line(lines, fields[0], path, number, "utterance")
        speakers[fields[0]] = fields[1]
    rows: dict[str, list[Turn]] = {}
    path = root / "segments"
    lines = {}
    for number, fields in read_lines(path):
        if len(fields) != 4:
            raise RttmError(
                path, number, f"{len(fields)} columns; a line of segments is `utterance recording start end`"
            )
        _note_line(lines, fields[0], path, number, "utterance")
        if fields[0] not in speakers:
            raise RttmError(path, number, f"the utterance {fields[0]!r} has no speaker in {root / 'utt2spk'}")
        start = read_seconds(fields[2], "start", path, number)
        end = read_seconds(fields[3], "end", path, number)
        if start < 0 or end <= start:
            raise RttmError(path, number, f"no segment goes from {fields[2]} s to {fields[3]} s")
        rows.setdefault(check_id(fields[1], path, number), []).append(Turn(start, end, speakers.pop(fields[0])))
    if speakers:
        raise RttmError(root / "utt2spk", None, f"the utterance {next(iter(speakers))!r} is not in {path}")
    return {recording_id: Turns.of(turns) for recording_id, turns in rows.items()}


def _durations(root: Path) -> dict[str, Seconds]:
    """What reco2dur promises, where there is one."""
    path = root / "reco2dur"
    if not path.is_file():
        return {}
    found = {}
    for number, fields in read_lines(path):
        if len(fields) != 2:
            raise RttmError(path, number, f"{len(fields)} columns; a line of reco2dur is `id seconds`")
        found[fields[0]] = read_seconds(fields[1], "duration", path, number)
    return found


def _piped(
    command: str, programs: tuple[str, ...], base: Path, where: str, channel: str | int | None, promised: Seconds | None
) -> Signal:
    return Signal(audio_of_command(command, programs, base, where), channel, duration=promised)


def _note_line(lines: dict[str, int], name: str, path: Path, number: int, what: str = "recording id") -> None:
    if name in lines:
        raise RttmError(path, number, f"the {what} {name!r} is there twice (first on line {lines[name]})")
    lines[name] = number
