"""The numbers of a line that tables and charts show; None where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from diarbench.leaderboard import REST, Exposure, exposure
from diarbench.report import text

if TYPE_CHECKING:
    from diarbench.costs import Measured, SpeedUp
    from diarbench.leaderboard import Column, Leaderboard, Line, Place
    from diarbench.types import Complexity, Seconds

PARTS = {"missed": "missed", "false_alarm": "false alarm", "confusion": "confusion"}

_MINUTES = 10.0  # of audio, at which peak memory is compared where all systems have it


def parameters(line: Line) -> int | None:
    """Parameters as counted, or None where the system exposes no networks."""
    complexity = line.entry.complexity
    return complexity.parameters if complexity else None


def has_zeros(line: Line) -> bool:
    """Whether so many parameters are exactly zero that the two counts print differently."""
    complexity = line.entry.complexity
    if complexity is None or complexity.parameters is None or complexity.nonzero_parameters is None:
        return False
    return text.count(complexity.parameters) != text.count(complexity.nonzero_parameters)


def has_more_than_an_encoder(line: Line) -> bool:
    """Whether the encoder's parameters print differently from those of all networks."""
    complexity = line.entry.complexity
    if complexity is None or complexity.parameters is None or complexity.encoder_parameters is None:
        return False
    return text.count(complexity.parameters) != text.count(complexity.encoder_parameters)


def held_bytes(complexity: Complexity) -> int | None:
    """Bytes of all weights of the built system."""
    return sum(held.bytes for held in complexity.held.values()) if complexity.held else None


def window_macs(complexity: Complexity) -> float | None:
    """Multiply-accumulates of the encoder per second of its own window; None where it takes any length."""
    macs, window = complexity.encoder_macs_window, complexity.encoder_window
    return macs / window if macs is not None and window else None


def rate(line: Line, column: Column, rule: str, part: str) -> float | None:
    """One of the three errors of a dataset as a fraction of its scored speech; None unless it is complete."""
    score = line.entry.scores.get(column.name)
    if score is None or not score.complete:
        return None
    total = score.total(rule)
    return float(getattr(total, part)) / total.scored if total.scored > 0 else None


_EXPOSURES: Mapping[Exposure, tuple[str, str]] = {
    "related": (text.RELATED, "trained on another part of this corpus"),
    "seen": (text.SEEN, "was, or may have been, trained on these very recordings"),
}


def exposure_mark(line: Line, column: Column) -> str:
    """What is printed behind a DER of a system that may know the dataset; nothing behind others."""
    found = exposure(line.entry, column)
    return _EXPOSURES[found][0] if found is not None else ""


def exposure_words(line: Line, column: Column) -> str:
    """The same in words."""
    found = exposure(line.entry, column)
    return _EXPOSURES[found][1] if found is not None else ""


def exposure_legend(board: Leaderboard) -> str:
    """What the marks behind DERs mean; nothing where there are none."""
    found = {
        exposure(line.entry, column)
        for line in board.lines
        for column in board.columns
        if column.name in line.entry.scores and line.entry.scores[column.name].der(board.rule.name) is not None
    }
    said = [f"{mark} {words}" for kind, (mark, words) in _EXPOSURES.items() if kind in found]
    return f"{'; '.join(said)}: as far as its card says; this changes no rank." if said else ""


def baseline_legend(board: Leaderboard) -> str:
    """What differences are taken against, and for whom where there are several; nothing where no card names any."""
    against: dict[str, list[str]] = {}
    lacking: dict[str, list[str]] = {}
    for line in board.lines:
        base = line.entry.baseline
        if base is not None and base != line.entry.system:
            found = against if line.delta[board.rule.name] is not None else lacking if line.rank is not None else {}
            found.setdefault(text.plain(base), []).append(text.plain(line.entry.system))
    parts = [f"{base} (for {text.some(names, 8)})" if len(against) > 1 else base for base, names in against.items()]
    said = (
        f"Δ: macro DER under {board.rule.name} less that of {' or '.join(parts)}, in percentage points."
        if parts
        else ""
    )
    gaps = [f"No Δ for {text.some(names, 8)}: {base} has no rank here." for base, names in lacking.items()]
    return " ".join([*filter(None, [said]), *gaps])


MACRO_LEGEND = (
    "Macro DER is the unweighted mean of the datasets' DERs; missed, false alarm, confusion and macro JER are such "
    "means too."
)


def macro_rate(line: Line, board: Leaderboard, part: str) -> float | None:
    """Unweighted mean over datasets of one of the three errors, under the rule that ranks: they sum to macro DER."""
    rates = [rate(line, column, board.rule.name, part) for column in board.columns]
    known = [value for value in rates if value is not None]
    return sum(known) / len(known) if known and len(known) == len(rates) else None


def rtf(line: Line, place: Place) -> float | None:
    """Real-time factor at that place over all recordings, or None where it was not timed there."""
    speed = line.entry.speeds.get(place)
    return speed.rtf if speed is not None and speed.audio > 0 else None


def compared(line: Line, place: Place, baseline: str) -> tuple[Measured, SpeedUp] | None:
    """What was measured at the place beside this baseline, and how many times faster it was."""
    measured = line.entry.measured.get(place)
    if measured is None or measured.baseline != baseline or measured.speedup is None:
        return None
    return measured, measured.speedup


def speedup_text(measured: Measured, ratio: SpeedUp | None) -> str:
    """A speed-up of the session as it is printed, with its marks; nothing where there is none."""
    if ratio is None:
        return ""
    mark = {"within noise": text.WITHIN_NOISE, None: text.UNJUDGED}.get(ratio.verdict, "")
    return text.speedup(ratio.median, ratio.low, ratio.high, mark + (text.BUSY if measured.busy else ""))


def comparisons(board: Leaderboard) -> list[tuple[Place, str]]:
    """Places and baselines that some speed-up of the board was measured with."""
    found = {
        (place, measured.baseline)
        for line in board.lines
        for place, measured in line.entry.measured.items()
        if measured.speedup is not None or any(encoder.speedup for encoder in measured.encoder)
    }
    return sorted(found)


def memory_minutes(board: Leaderboard, place: Place) -> float | None:
    """The length of audio at which peak memory is compared: 10 minutes where all systems with a value have it,
    otherwise the longest that most of them have."""
    counts: dict[float, int] = {}
    systems = 0
    for line in board.lines:
        lengths = _peaks(line, place)
        systems += bool(lengths)
        for minutes in lengths:
            counts[minutes] = counts.get(minutes, 0) + 1
    if counts.get(_MINUTES) == systems:
        return _MINUTES if systems else None
    return max(counts, key=lambda minutes: (counts[minutes], minutes), default=None)


def peak_memory(line: Line, place: Place, minutes: float, kind: str) -> int | None:
    """Peak bytes on audio of that length; `kind` is "resident" or "cuda"."""
    return _peaks(line, place).get(minutes, {}).get(kind)


def _peaks(line: Line, place: Place) -> Mapping[float, Mapping[str, int | None]]:
    measured = line.entry.measured.get(place)
    lengths = measured.memory.lengths if measured is not None and measured.memory is not None else ()
    return {at.minutes: {"resident": at.resident, "cuda": at.cuda} for at in lengths if at.resident is not None}


def stage_seconds(line: Line, place: Place) -> Mapping[str, Seconds] | None:
    """Exclusive time by stage, for each second of audio: of the run, or else of a measuring session."""
    speed, measured = line.entry.speeds.get(place), line.entry.measured.get(place)
    if speed is not None and speed.audio > 0 and place in line.entry.stages:
        return {stage: seconds / speed.audio for stage, seconds in line.entry.stages[place].items()}
    if measured is None or measured.rtf is None or not measured.stages:
        return None
    shares = {stage: cost.share for stage, cost in measured.stages.items()}
    if REST not in shares and sum(shares.values()) < 1:
        shares[REST] = 1 - sum(shares.values())
    return {stage: share * measured.rtf for stage, share in shares.items()}
