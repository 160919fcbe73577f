"""Recordings with the errors of systems marked: what a timeline shows, in which order, and the same as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diarbench.report import text
from diarbench.rttm import without_spans
from diarbench.scoring import ErrorSpan, ErrorTimes, Marked, Pair, ScoringRule, UnscoredSpan, mark_errors
from diarbench.types import Seconds, Spans, Turns

FORMAT = 1

NAMES = {"missed": "missed", "false_alarm": "false alarm", "confusion": "confusion"}
REASONS = {"outside": "outside the scoring region", "collar": "in a collar", "overlap": "overlap, which is skipped"}

# Colours of speakers, besides grey, which is for those who are mapped to nobody. The ninth has the first's again.
_HUES = 7
# Lanes with a speaker of their own; the rest share one. Of a hypothesis, so many more who are mapped to nobody.
_MOST_SPEAKERS, _MOST_UNMAPPED = 30, 12


@dataclass(frozen=True, slots=True)
class Answer:
    """What one system makes of a recording."""

    system: str
    hypothesis: Turns
    marked: Marked | None  # None where there is nothing to mark
    unscored: tuple[UnscoredSpan, ...] = ()  # of all that is to be seen
    problem: str | None = None  # why: it failed, or never ran


@dataclass(frozen=True, slots=True)
class Timeline:
    """A recording, its reference, and what systems make of it."""

    dataset: str | None
    recording: str
    reference: Turns
    unscored: tuple[UnscoredSpan, ...]  # whatever the systems say; of all that is to be seen
    answers: tuple[Answer, ...]
    start: Seconds  # of the first thing that is to be seen
    end: Seconds

    @property
    def marks(self) -> int:
        """How many things are drawn."""
        drawn = [len(self.reference), len(self.unscored)]
        for answer in self.answers:
            drawn.append(len(answer.hypothesis))
            if answer.marked is not None:
                drawn += [len(answer.marked.errors), len(answer.unscored)]
        return sum(drawn)


@dataclass(frozen=True, slots=True)
class Timelines:
    """Recordings to show, those that are left out, and how all were scored."""

    title: str
    rule: ScoringRule
    scoring: str  # rule and region in words
    region: str  # "uem", "turns" or "reference": see `diarbench score`
    systems: tuple[str, ...]
    shown: tuple[Timeline, ...]
    left_out: tuple[tuple[str | None, str], ...]  # dataset and recording
    chosen: str  # which are shown, in words
    version: str


def make_timeline(
    recording: str,
    reference: Turns,
    region: Spans | None,
    hypotheses: Mapping[str, Turns | str],
    rule: ScoringRule,
    *,
    dataset: str | None = None,
    excluded: Spans = (),
) -> Timeline:
    """The timeline of one recording; a text in place of a hypothesis says why there is none.

    Without a region, what is scored lasts from the first to the last turn of both sides. `excluded` is not scored
    wherever it lies.
    """
    nobody = Turns.of([])
    turns = {name: nobody if isinstance(found, str) else found for name, found in hypotheses.items()}
    whole = _extent([reference, *turns.values()], region)
    start, end = whole or (0.0, 0.0)
    end = max(end, start + 1.0)

    def answer(name: str) -> Answer:
        if isinstance(problem := hypotheses[name], str):
            return Answer(name, nobody, None, problem=problem)
        marked = mark_errors(Pair(reference, turns[name], _scored([reference, turns[name]], region, excluded)), rule)
        inner = _extent([reference, turns[name]], region)
        return Answer(name, turns[name], marked, _framed(marked.unscored, inner, start, end))

    everywhere = region if region is not None else (whole,) if whole is not None else ()
    unscored = mark_errors(Pair(reference, nobody, without_spans(everywhere, excluded)), rule).unscored
    inner = _extent([reference], everywhere)
    answers = tuple(answer(name) for name in hypotheses)
    return Timeline(dataset, recording, reference, _framed(unscored, inner, start, end), answers, start, end)


def _scored(sides: Iterable[Turns], region: Spans | None, excluded: Spans) -> Spans | None:
    """The region less what is excluded; None for all from the first to the last turn."""
    if not excluded:
        return region
    whole = _extent(sides, region)
    inner = region if region is not None else (whole,) if whole is not None else ()
    return without_spans(inner, excluded)


def _extent(sides: Iterable[Turns], region: Spans | None) -> tuple[Seconds, Seconds] | None:
    """From the first to the last boundary of turns and region (s); None where there is none."""
    edges = [edge for span in region or () for edge in span]
    edges += [float(edge) for side in sides if len(side) for edge in (side.starts[0], side.ends.max())]
    return (min(edges), max(edges)) if edges else None


def _framed(
    unscored: Sequence[UnscoredSpan], inner: tuple[Seconds, Seconds] | None, start: Seconds, end: Seconds
) -> tuple[UnscoredSpan, ...]:
    """What is not scored from `start` to `end`: what lies beyond the inner boundaries isn't, either."""
    low, high = inner or (start, start)
    found: list[UnscoredSpan] = []
    for span in (UnscoredSpan(start, low, "outside"), *unscored, UnscoredSpan(high, end, "outside")):
        cut = UnscoredSpan(max(span.start, start), min(span.end, end), span.why)
        if cut.end <= cut.start:
            continue
        if found and found[-1].why == cut.why and cut.start <= found[-1].end:
            before = found.pop()
            cut = UnscoredSpan(before.start, max(before.end, cut.end), cut.why)
        found.append(cut)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of a timeline: a speaker's turns."""

    name: str
    partner: str  # of a hypothesis speaker, whom of the reference it is mapped to; "" for none, and in the reference
    hue: int  # from 1; 0 is grey
    spans: Spans  # may touch, don't overlap


def reference_lanes(timeline: Timeline) -> list[Lane]:
    """Speakers of the reference, in the order in which they first speak."""
    spoken = _spoken(timeline.reference)
    names = sorted(spoken, key=lambda name: (spoken[name][0], name))
    lanes = [Lane(name, "", 1 + place % _HUES, spoken[name]) for place, name in enumerate(names[:_MOST_SPEAKERS])]
    return lanes + _rest(spoken, names[_MOST_SPEAKERS:])


def hypothesis_lanes(timeline: Timeline, answer: Answer) -> list[Lane]:
    """Speakers of the hypothesis: first the mapped ones, in order and colours of the reference; then the others, who
    are grey, by how long they speak."""
    spoken = _spoken(answer.hypothesis)
    mapping = answer.marked.mapping if answer.marked is not None else {}
    partners = [(lane, mapping[lane.name]) for lane in reference_lanes(timeline) if lane.name in mapping]
    lanes = [Lane(name, lane.name, lane.hue, spoken[name]) for lane, name in partners]
    shown = {name for _, name in partners}
    names = [name for name in spoken if name not in shown]
    names.sort(key=lambda name: (-sum(end - start for start, end in spoken[name]), name))
    # Where the reference has more speakers than lanes, a grey one may be mapped too.
    known = {partner: name for name, partner in mapping.items()}
    lanes += [Lane(name, known.get(name, ""), 0, spoken[name]) for name in names[:_MOST_UNMAPPED]]
    return lanes + _rest(spoken, names[_MOST_UNMAPPED:])


def _spoken(turns: Turns) -> dict[str, Spans]:
    """Turns by speaker, those of one speaker that overlap joined."""
    rows: dict[str, list[tuple[Seconds, Seconds]]] = {name: [] for name in turns.labels}
    for start, end, speaker in turns:
        rows[speaker].append((start, end))
    return {name: joined(spans) for name, spans in rows.items()}


def joined(spans: Iterable[tuple[Seconds, Seconds]]) -> Spans:
    """Spans sorted, those that overlap as one; those that touch stay as they are.

    >>> joined([(0, 2), (1, 3), (3, 4)])
    ((0, 3), (3, 4))
    """
    found: list[tuple[Seconds, Seconds]] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def _rest(spoken: Mapping[str, Spans], names: Sequence[str]) -> list[Lane]:
    """Those who have no lane of their own, in one."""
    if not names:
        return []
    return [Lane(f"{len(names)} more", "", 0, joined(span for name in names for span in spoken[name]))]


def who(span: ErrorSpan) -> str:
    """Whose error it is, in words.

    >>> who(ErrorSpan(0.0, 1.0, "missed", 1, ("Anna", "Ben"), ("x",)))
    '1 of Anna, Ben'
    >>> who(ErrorSpan(0.0, 1.0, "confusion", 1, ("Ben",), ("x",)))
    'Ben taken for x'
    """
    both = [span.reference, span.hypothesis]
    sides = {"missed": both[:1], "false_alarm": both[1:], "confusion": both}
    return " taken for ".join(
        ", ".join(names) if len(names) == span.speakers else f"{span.speakers} of {', '.join(names)}"
        for names in sides[span.kind]
    )


def clock(seconds: Seconds) -> str:
    """A place in a recording.

    >>> clock(75.5), clock(3725.0), clock(59.9999)
    ('1:15.50', '1:02:05.00', '1:00.00')
    """
    hundredths = round(100 * abs(seconds))
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{text.MINUS if seconds < 0 and hundredths else ''}{front}:{rest // 100:02d}.{rest % 100:02d}"


def timelines_json(found: Timelines) -> dict[str, Any]:
    """Everything that is shown, as docs/json.md documents it. Nothing is rounded."""
    return {
        "format": FORMAT,
        "version": found.version,
        "rule": found.rule.name,
        "region": found.region,
        "systems": list(found.systems),
        "left_out": [{"dataset": dataset, "recording": recording} for dataset, recording in found.left_out],
        "recordings": [
            {
                "dataset": timeline.dataset,
                "recording": timeline.recording,
                "reference": _turns_json(timeline.reference),
                "systems": [_answer_json(answer) for answer in timeline.answers],
            }
            for timeline in found.shown
        ],
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    # Without a hypothesis no time is known, and so none is 0.
    marked = answer.marked or Marked(ErrorTimes.zero(), {}, (), ())
    times = marked.times.as_json()
    return {
        "system": answer.system,
        "problem": answer.problem,
        **(times if answer.marked is not None else dict.fromkeys(times)),
        "mapping": [{"reference": name, "hypothesis": partner} for name, partner in marked.mapping.items()],
        "hypothesis": _turns_json(answer.hypothesis),
        "errors": [asdict(span) for span in marked.errors],
        "unscored": [asdict(span) for span in answer.unscored],
    }


def _turns_json(turns: Turns) -> list[dict[str, Any]]:
    return [turn._asdict() for turn in turns]
