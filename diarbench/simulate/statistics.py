"""How people take turns: figures fitted on references, stored as JSON, and drawn from by the simulator."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarbench.errors import InputError
from diarbench.files import write_whole
from diarbench.types import Seconds, Turn, Turns

FORMAT = 1
# Tables run from 1 % to 99 %, and drawing stays inside them: in AMI, a hundredth of the gaps are silences of 9 s
# to a minute, which would empty a conversation of two minutes.
PROBABILITIES: tuple[float, ...] = tuple(percent / 100 for percent in range(1, 100))


@dataclass(frozen=True, slots=True)
class TurnStatistics:
    """Turn-taking figures of a set of conversations.

    A turn that lies wholly inside another speaker's turn is a *backchannel* ("yeah", but also a longer aside).
    All others are *floor turns*; they form a chain, sorted by start, whose neighbours are either by the same
    speaker, with a pause between, or by two, with a gap (negative where the second begins before the first ends):

        A  ████████████        ██████
        B        █   ├─ gap < 0           the single block is a backchannel
        B         ██████

    Tables hold the quantiles of 1 %, 2 %, … 99 % (`PROBABILITIES`).
    """

    turn_lengths: tuple[Seconds, ...]
    """Floor turns, s."""
    pauses: tuple[Seconds, ...]
    """From the end of a floor turn to the start of the next one by the same speaker, s."""
    gaps: tuple[Seconds, ...]
    """From the end of a floor turn to the start of the next one by another speaker, s; negative: overlap."""
    backchannel_lengths: tuple[Seconds, ...]
    """Turns inside a turn of another, s."""
    shares: tuple[float, ...]
    """A speaker's part of all speaking time, times the number of speakers: 1 is an even part."""
    same_speaker: float
    """Probability that the next floor turn is by the same speaker."""
    backchannels_per_second: float
    """Backchannels per second of floor turns, 1/s."""
    recordings: int
    """How many references the figures come from."""
    turns: int
    """How many turns these hold."""
    source: str = ""
    """Where the references come from, with their licence."""

    @property
    def digest(self) -> str:
        """SHA-256 of the figures, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def draw(table: tuple[float, ...], rng: np.random.Generator) -> float:
    """A value of a quantile table: linear between its quantiles, and never outside them."""
    return float(np.interp(rng.uniform(), PROBABILITIES, table))


def fit_turn_statistics(references: Iterable[Turns], *, source: str = "") -> TurnStatistics:
    """The turn-taking figures of some references.

    A speaker's own turns that touch or overlap count as one. Raises InputError where the references hold no
    change of speaker, no pause or no backchannel: nothing could be drawn from them.
    """
    lengths: list[float] = []
    pauses: list[float] = []
    gaps: list[float] = []
    backchannels: list[float] = []
    shares: list[float] = []
    recordings = turns = 0
    for reference in references:
        rows = merge_own_turns(reference)
        recordings, turns = recordings + 1, turns + len(rows)
        floor, inside = _split(rows)
        lengths += [turn.end - turn.start for turn in floor]
        backchannels += [turn.end - turn.start for turn in inside]
        for first, second in itertools.pairwise(floor):
            (pauses if first.speaker == second.speaker else gaps).append(second.start - first.end)
        shares += _shares(rows)
    if not (pauses and gaps and backchannels):
        raise InputError(
            f"{recordings} references with {turns} turns hold {len(pauses)} pauses, {len(gaps)} changes of speaker "
            f"and {len(backchannels)} backchannels; at least one of each is needed to fit turn statistics"
        )
    return TurnStatistics(
        turn_lengths=_table(lengths),
        pauses=_table(pauses),
        gaps=_table(gaps),
        backchannel_lengths=_table(backchannels),
        shares=_table(shares),
        same_speaker=round(len(pauses) / (len(pauses) + len(gaps)), 4),
        backchannels_per_second=round(len(backchannels) / sum(lengths), 4),
        recordings=recordings,
        turns=turns,
        source=source,
    )


def merge_own_turns(reference: Turns, within: Seconds = 0.0) -> list[Turn]:
    """Turns sorted by start; a speaker's own turns that lie no further than `within` s apart are joined."""
    merged: list[Turn] = []
    last: dict[str, int] = {}
    for turn in reference:
        known = last.get(turn.speaker)
        if known is not None and turn.start - merged[known].end <= within:
            merged[known] = merged[known]._replace(end=max(merged[known].end, turn.end))
        else:
            last[turn.speaker] = len(merged)
            merged.append(turn)
    return merged


def read_turn_statistics(path: Path) -> TurnStatistics:
    """The figures of a file that `write_turn_statistics` wrote. Raises InputError for any other."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'{path}: no turn statistics of format {FORMAT} (the key "format" says which it is)')
    names = [item.name for item in fields(TurnStatistics)]
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{path}: the key {missing[0]!r} is missing")
    values = {name: content[name] for name in names}
    for name in names[:5]:
        table = values[name]
        if (
            not isinstance(table, list)
            or len(table) != len(PROBABILITIES)
            or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in table)
            or sorted(table) != table
        ):
            raise InputError(f"{path}: {name!r} must be {len(PROBABILITIES)} rising numbers, the quantiles 1 % to 99 %")
        if name != "gaps" and table[0] < 0:
            raise InputError(f"{path}: {name!r} holds a value below 0")
        values[name] = tuple(float(value) for value in table)
    for name, most in (("same_speaker", 1.0), ("backchannels_per_second", math.inf)):
        if not isinstance(values[name], (int, float)) or not 0 <= values[name] <= most:
            raise InputError(f"{path}: {name!r} is {values[name]!r}; a number from 0 to {most} was expected")
    return TurnStatistics(**values)


def shipped_statistics() -> TurnStatistics:
    """The figures of AMI's 16 test meetings, which come with diarbench."""
    from diarbench.registry import shipped

    return read_turn_statistics(shipped() / "datasets" / "turn-statistics-ami.json")


def write_turn_statistics(statistics: TurnStatistics, path: Path) -> None:
    """Figures as JSON: the fields of `TurnStatistics` under their names, and `format`."""
    content = {
        "format": FORMAT,
        "about": "Turn-taking figures, fitted by diarbench.simulate.fit_turn_statistics; times in seconds; each list "
        "holds the quantiles of 1 % to 99 %; the keys are explained at diarbench.simulate.TurnStatistics",
        **asdict(statistics),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items()]
    write_whole(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _split(rows: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """Floor turns and backchannels. Of two turns with the same extent, the first is the floor turn."""
    floor: list[Turn] = []
    inside: list[Turn] = []
    # Of turns that start together, the longest holds the floor.
    for turn in sorted(rows, key=lambda turn: (turn.start, -turn.end)):
        (inside if floor and turn.end <= floor[-1].end else floor).append(turn)
    return floor, inside


def _shares(rows: list[Turn]) -> list[float]:
    spoken: dict[str, float] = {}
    for turn in rows:
        spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + turn.end - turn.start
    total = sum(spoken.values())
    return [seconds / total * len(spoken) for seconds in spoken.values()]


def _table(values: list[float]) -> tuple[float, ...]:
    array: NDArray[np.float64] = np.quantile(np.array(values), PROBABILITIES)
    return tuple(round(float(value), 3) for value in array)
