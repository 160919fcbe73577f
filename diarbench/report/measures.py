"""The measuring sessions that a board's figures come from, in words, and what they found beyond the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diarbench.report import text
from diarbench.report.columns import place_label
from diarbench.report.values import speedup_text

if TYPE_CHECKING:
    from diarbench.costs import EncoderSpeed, Measured
    from diarbench.leaderboard import Leaderboard, Line, Place


_MOST_STAGES = 6


@dataclass(frozen=True, slots=True)
class Session:
    """One measuring session at one place, as far as the board shows it."""

    place: Place
    lines: tuple[Line, ...]  # in the order of the board
    any: Measured  # of one of them: what is said of the session is the same in all

    def words(self, board: Leaderboard) -> str:
        """How it was measured, and how far it can be believed, in a sentence."""
        told, place = self.any, f"{place_label(board, self.place)} on {text.plain(self.place.machine)}"
        parts = [f"against {text.plain(told.baseline)}{'' if told.weights else ', with random weights'}"]
        if told.rounds is not None:
            length = f" over {text.minutes(told.audio_seconds)}" if told.audio_seconds else ""
            of = f" of {text.plain(told.audio)}" if told.audio and length else ""
            parts.append(f"{text.many(told.rounds, 'round')}{length}{of}")
        if told.floor is not None:
            parts.append(f"noise floor ±{text.percent(told.floor)} %")
        if told.busy:
            reasons = "; ".join(map(text.plain, told.reasons)) or "no reason is stored"
            parts.append(f"{text.BUSY} the machine was busy ({reasons})")
        return f"Measured on {place}: {', '.join(parts)}; session {text.plain(told.session)}."

    def errors(self) -> list[str]:
        """What could not be measured of systems that took part, and why."""
        found = []
        for line in self.lines:
            measured = line.entry.measured[self.place]
            memory = measured.memory.lengths if measured.memory is not None else ()
            parts = [(f"the encoder, {at.batch} at a time", at.error) for at in measured.encoder]
            parts += [(f"memory at {at.minutes:g} min", at.error) for at in memory]
            found += [f"{line.entry.system}, {what}: {error}" for what, error in parts if error is not None]
        return found


@dataclass(frozen=True, slots=True)
class Detail:
    """A column of figures that only the page shows; empty text where there is none."""

    head: str
    note: str
    show: Callable[[Measured], str]


def sessions(board: Leaderboard) -> list[Session]:
    """By place, then by start; sessions of which the board shows nothing are not among them."""
    found: dict[tuple[Place, str, str], list[Line]] = {}
    for line in board.lines:
        for place, measured in line.entry.measured.items():
            found.setdefault((place, measured.started, measured.session), []).append(line)
    return [
        Session(place, tuple(lines), lines[0].entry.measured[place]) for (place, _, _), lines in sorted(found.items())
    ]


def notes_on(board: Leaderboard) -> list[str]:
    """What is not shown, and why."""
    return [f"{line.entry.system}: {note}" for line in board.lines for note in line.entry.notes]


def speedup_legend(board: Leaderboard) -> str:
    """How to read the speed-ups of the table: only the marks that stand there are explained."""
    found = [(one, one.speedup.verdict) for line in board.lines for one in line.entry.measured.values() if one.speedup]
    parts = ["Speed-up: median of the ratios within rounds, and its 95 % interval"]
    if any(verdict == "within noise" for _, verdict in found):
        parts.append(f"{text.WITHIN_NOISE}: within the noise of its session, no speed-up")
    if any(verdict is None for _, verdict in found):
        parts.append(f"{text.UNJUDGED}: the noise is not known, nothing can be said")
    if any(measured.busy for measured, _ in found):
        parts.append(f"{text.BUSY}: other work was seen on the machine")
    return f"{'. '.join(parts)}."


def details(session: Session) -> list[Detail]:
    """The columns that have a value for some system of the session."""
    measured = [line.entry.measured[session.place] for line in session.lines]
    batches = sorted({(encoder.window, encoder.batch) for one in measured for encoder in one.encoder})
    shares: dict[str, float] = {}
    for stage, cost in (item for one in measured for item in one.stages.items()):
        shares[stage] = shares.get(stage, 0.0) + cost.share
    stages = sorted(shares, key=lambda stage: (-shares[stage], stage))[:_MOST_STAGES]
    columns = [
        Detail("RTF", "Real-time factor, median of the warm calls", lambda at: _said(at.rtf, text.ratio)),
        Detail(
            "× real time",
            "Seconds of audio for each second of work",
            lambda at: _said(1 / at.rtf if at.rtf else None, text.ratio),
        ),
        Detail("import", "To import the adapter", lambda at: _said(at.imported, text.duration)),
        Detail("load", "To build the system", lambda at: _said(at.load, text.duration)),
        Detail("first call", "The first call of diarize()", lambda at: _said(at.first, text.duration)),
        Detail("speed-up", "Of the whole pipeline", _speedup),
        *(_encoder_column(window, batch) for window, batch in batches),
        *(_stage_column(stage) for stage in stages),
        Detail("memory, loaded", "Resident, once the system is built", _loaded),
        Detail("memory per hour", "What each hour of recording adds to the peak", _growth),
        Detail("energy per hour", "Joules for each hour of audio, as the hardware counts them", _energy),
        Detail("latency", "Algorithmic: chunk and look-ahead; then the time for a chunk, P50 / P90 / P99", _latency),
    ]  # fmt: skip
    return [column for column in columns if any(map(column.show, measured))]


def _encoder_column(window: float, batch: int) -> Detail:
    def show(measured: Measured) -> str:
        found = next((at for at in measured.encoder if (at.window, at.batch) == (window, batch)), None)
        return _encoder(measured, found) if found is not None else ""

    note = f"The encoder alone on windows of {window:g} s, {batch} at a time: real-time factor and speed-up"
    return Detail(f"encoder, {window:g} s × {batch}", note, show)


def _stage_column(stage: str) -> Detail:
    def show(measured: Measured) -> str:
        cost = measured.stages.get(stage)
        if cost is None:
            return ""
        bound = f" (≤ {text.times(cost.bound)})" if cost.bound is not None else ""
        return f"{100 * cost.share:.0f} %{bound}"

    name = text.plain(stage)
    note = f"Share of the time that {name} takes, and how many times faster the whole would be if it cost nothing"
    return Detail(f"time in {name}", note, show)


def _encoder(measured: Measured, encoder: EncoderSpeed) -> str:
    if encoder.error is not None:
        return "failed"
    return ", ".join(filter(None, [_said(encoder.rtf, text.ratio), speedup_text(measured, encoder.speedup)]))


def _speedup(measured: Measured) -> str:
    return speedup_text(measured, measured.speedup)


def _loaded(measured: Measured) -> str:
    return _said(measured.memory.loaded, text.size) if measured.memory is not None else ""


def _growth(measured: Measured) -> str:
    memory = measured.memory
    if memory is None:
        return ""
    where = {"resident": "", "cuda": " on the GPU"}
    known = {kind: value for kind, value in memory.growth_per_hour.items() if value is not None}
    return ", ".join(f"{text.size_change(value)}{where[kind]}" for kind, value in known.items())


def _energy(measured: Measured) -> str:
    energy = measured.energy
    return f"{text.energy(energy.joules_per_hour)} ({text.plain(energy.source)})" if energy is not None else ""


def _latency(measured: Measured) -> str:
    latency = measured.latency
    if latency is None:
        return ""
    chunk = " / ".join(_said(value, text.duration) or text.NOTHING for value in (latency.p50, latency.p90, latency.p99))
    return f"{_said(latency.algorithmic, text.duration) or text.NOTHING}; {chunk}"


def _said(value: float | None, show: Callable[[float], str]) -> str:
    return show(value) if value is not None else ""
