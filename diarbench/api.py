"""`diarbench.score`: score turns from files, pyannote objects or plain rows, in one call."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from diarbench.errors import InputError, counted, did_you_mean
from diarbench.ids import near_ids
from diarbench.rttm import merge_spans, without_spans
from diarbench.scoring import RULES, ErrorTimes, FileScore, JaccardErrors, Pair, ScoringRule, detail_recordings
from diarbench.scoring import parse_rule as parse_rule  # callers know it from here
from diarbench.turnfiles import Side, read_regions, read_side
from diarbench.types import MAX_TIME, Seconds, Spans, Turns

if TYPE_CHECKING:
    import pandas
    from pyannote.core import Annotation, Timeline

    from diarbench.leaderboard import Leaderboard

    OneSide: TypeAlias = Turns | Annotation | Iterable[tuple[float, float, object]] | str | Path
    OneRegion: TypeAlias = Timeline | Iterable[tuple[float, float]] | str | Path

Region = Literal["turns", "reference"]

# What is scored, in words.
REGIONS = {
    "uem": "scored inside the UEM",
    "turns": "scored from the first to the last turn of both sides",
    "reference": "scored from the first to the last turn of the reference",
}

# A hypothesis that ends so many times as late as all that is known of its recording is on another clock: milliseconds
# make 1000, hundredths 100, frames of 20 ms 50. The minute spares short recordings, where a system may overshoot.
_FAR_TIMES, _FAR_LEAST = 10.0, 60.0

# What turns are called that come without the id of a recording.
_UNNAMED = "recording"


@dataclass(frozen=True, slots=True)
class Total:
    """The scores of recordings under one rule, summed."""

    times: ErrorTimes
    jaccard: JaccardErrors
    # How many recordings have so many speakers (in the reference, in the hypothesis).
    speaker_counts: Mapping[tuple[int, int], int]
    by_concurrency: tuple[ErrorTimes, ...]  # errors where 0, 1, 2, ... reference speakers speak at once

    @classmethod
    def of(cls, scores: Sequence[FileScore]) -> Total:
        """The sum of these."""
        levels = max((len(score.by_concurrency) for score in scores), default=0)
        return cls(
            times=reduce(add, (score.times for score in scores), ErrorTimes.zero()),
            jaccard=reduce(add, (score.jaccard for score in scores), JaccardErrors.zero()),
            speaker_counts=Counter((score.reference_speakers, score.hypothesis_speakers) for score in scores),
            by_concurrency=tuple(
                reduce(add, (s.by_concurrency[k] for s in scores if k < len(s.by_concurrency)), ErrorTimes.zero())
                for k in range(levels)
            ),
        )

    @property
    def speaker_count_error(self) -> float | None:
        """By how many speakers a recording's count is wrong, on average; None without recordings."""
        recordings = sum(self.speaker_counts.values())
        wrong = sum(abs(right - found) * many for (right, found), many in self.speaker_counts.items())
        return wrong / recordings if recordings else None


class Beyond(NamedTuple):
    """Where a hypothesis ends, and where its reference and its scoring region do (s)."""

    hypothesis: Seconds
    known: Seconds


@dataclass(frozen=True, slots=True)
class Scores:
    """What `score` returns: everything by the name of the rule."""

    rules: tuple[ScoringRule, ...]
    region: Region | Literal["uem"]
    overall: Mapping[str, Total]  # by rule
    recordings: Mapping[str, Mapping[str, FileScore]]  # by recording, then by rule
    absent: tuple[str, ...]  # recordings without a hypothesis: all their speech is missed
    left_out: tuple[str, ...]  # hypotheses without a reference: not scored
    beyond: Mapping[str, Beyond] = field(default_factory=dict)  # recordings whose hypothesis ends far too late
    unreferenced: tuple[str, ...] = ()  # recordings that count by a UEM alone: nobody speaks in them
    excluded: Mapping[str, Spans] = field(default_factory=dict)  # what the references mark as not to be scored
    alike: str = ""  # how ids without a counterpart are nearly the same on both sides
    remarks: tuple[str, ...] = ()  # on what the files hold, in sentences

    @property
    def region_in_words(self) -> str:
        """What is scored, as it is printed."""
        return REGIONS[self.region] + (", less what references mark as not to be scored" if self.excluded else "")

    @property
    def notes(self) -> list[str]:
        """What was odd in the files, missing on one side, or can't be in seconds, in sentences."""
        notes = list(self.remarks)
        if self.left_out:
            said = counted(
                len(self.left_out), "hypothesis has no reference and is", "hypotheses have no reference and are"
            )
            notes.append(f"{said} left out ({_some(self.left_out)})")
        if self.absent:
            said = counted(
                len(self.absent), "recording has no hypothesis; all its", "recordings have no hypothesis; all their"
            )
            notes.append(f"{said} speech counts as missed ({_some(self.absent)})")
        rule = self.rules[0].name
        if alarm := sum(self.recordings[name][rule].times.false_alarm for name in self.unreferenced):
            said = counted(len(self.unreferenced), "recording of the UEM has", "recordings of the UEM have")
            notes.append(
                f"{said} no reference ({_some(self.unreferenced)}): what the hypothesis says there counts as false "
                f"alarm, {alarm:.6g} s; if somebody speaks there, references are missing"
            )
        if self.alike:
            notes.append(f"{self.alike}; if that is one recording, rename one side")
        if self.beyond:
            name, ends = next(iter(self.beyond.items()))
            said = counted(len(self.beyond), "hypothesis ends", "hypotheses end")
            notes.append(
                f"{said} far too late ({name}: at {ends.hypothesis:g} s, its reference and scoring region at "
                f"{ends.known:g} s); turns are in seconds, are these milliseconds?"
            )
        return notes

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table: one line for each rule and recording, rates as fractions, times in seconds."""
        import pandas

        rows = [
            {
                "rule": rule.name,
                "recording": name,
                "der": score[rule.name].times.der,
                "missed": score[rule.name].times.missed,
                "false_alarm": score[rule.name].times.false_alarm,
                "confusion": score[rule.name].times.confusion,
                "scored": score[rule.name].times.scored,
                "jer": score[rule.name].jaccard.jer,
                "reference_speakers": score[rule.name].reference_speakers,
                "hypothesis_speakers": score[rule.name].hypothesis_speakers,
            }
            for rule in self.rules
            for name, score in self.recordings.items()
        ]
        return pandas.DataFrame(rows).set_index(["rule", "recording"])


def score(
    reference: OneSide | Mapping[str, OneSide] | Sequence[str | Path],
    hypothesis: OneSide | Mapping[str, OneSide] | Sequence[str | Path],
    uem: OneRegion | Mapping[str, OneRegion] | Sequence[str | Path] | None = None,
    *,
    rules: Sequence[str | ScoringRule] = ("full",),
    region: Region = "turns",
) -> Scores:
    """Score hypotheses against references.

    Each side is `Turns`, a pyannote `Annotation`, an iterable of (start, end, speaker) in seconds, a path (an RTTM,
    SegLST or STM file, or a folder of them), several paths, or a mapping from recording ids to any of these. `uem`
    says what is scored: a pyannote `Timeline`, an iterable of (start, end), paths of UEM files, or a mapping. Without,
    that is from the first to the last turn: of both sides with region "turns" (as dscore), of the reference alone
    with "reference" (as md-eval). Rules are names, such as "fair", or texts, such as "collar=0.1,overlap=skip".

    A recording without a hypothesis counts as missed, and a hypothesis without a reference does not count; both are
    warned of, and so are hypotheses that end so late that they can't be in seconds. What a file of references marks as
    not to be scored (NOSCORE in RTTM, excluded_region in STM) is left out of what is scored, as in md-eval and sclite.
    Raises InputError for what can't be scored, which is also where no hypothesis has the id of a reference.

    >>> import diarbench
    >>> reference = [(0.0, 10.0, "Anna"), (10.0, 20.0, "Ben")]
    >>> hypothesis = [(0.0, 12.0, "x"), (12.0, 19.0, "y")]
    >>> scores = diarbench.score(reference, hypothesis, rules=["full", "fair"])
    >>> scores.overall["full"].times
    ErrorTimes(scored=20.0, missed=1.0, false_alarm=0.0, confusion=2.0)
    >>> scores.overall["full"].times.der, round(scores.overall["fair"].times.der, 4)
    (0.15, 0.1316)
    >>> [round(speaker.jaccard_error, 3) for speaker in scores.recordings["recording"]["full"].speakers]
    [0.167, 0.3]
    """
    sides = [_side(reference, "reference"), _side(hypothesis, "hypothesis")]
    regions = _regions(uem) if uem is not None else None
    # Turns without an id are those of the only recording that the others name.
    known = {name for side in sides for name in side.turns} | set(regions or ())
    names = sorted(name for name in known if name is not None)
    if None in known and len(names) > 1:
        raise InputError(f"turns or a uem without a recording id, but {len(names)} recordings; give a mapping by id")
    only = next(iter(names), _UNNAMED)
    named, named_hypothesis = ({name or only: turns for name, turns in side.turns.items()} for side in sides)
    named_regions = {name or only: spans for name, spans in regions.items()} if regions is not None else None
    found = [parse_rule(rule) if isinstance(rule, str) else rule for rule in rules]
    scores = score_sides(
        named,
        named_hypothesis,
        named_regions,
        found,
        region=region,
        excluded=sides[0].excluded,
        remarks=[remark for side in sides for remark in side.remarks],
    )
    for note in scores.notes:
        warnings.warn(note, stacklevel=2)
    return scores


def score_sides(
    references: Mapping[str, Turns],
    hypotheses: Mapping[str, Turns],
    uem: Mapping[str, Spans] | None,
    rules: Sequence[ScoringRule],
    *,
    region: Region = "turns",
    also: Iterable[str] = (),
    excluded: Mapping[str, Spans] | None = None,
    remarks: Iterable[str] = (),
    reference_from: object = "the reference",
    hypothesis_from: object = "the hypothesis",
    uem_from: object = "the uem",
) -> Scores:
    """Scores of turns that are read already, by recording id; see `score`.

    The recordings are those with a reference, and those with a scoring region and a hypothesis: a UEM alone says that
    a recording counts, even where nobody speaks in it. `also` names more (what another system has hypotheses for).
    `excluded` is not scored, wherever it lies; `remarks` on the files are the first notes. Raises InputError, which
    says where turns and regions came from.
    """
    if region not in get_args(Region):
        raise InputError(f"no region {region!r}{did_you_mean(region, get_args(Region))}")
    if not rules:
        raise InputError(f"no scoring rule was given{did_you_mean('', RULES)}")
    rules = list({rule.name: rule for rule in rules}.values())
    ids = sorted(set(references) | ({*hypotheses, *also} & set(uem or ())))
    if not any(len(turns) for turns in references.values()) and not set(ids) & {*hypotheses, *also}:
        raise InputError(f"{reference_from}: no recordings in the references")
    if references and not references.keys() & hypotheses.keys():
        raise InputError(_nothing_shared(references, hypotheses, reference_from, hypothesis_from))
    if uem is not None and (without := [name for name in ids if name not in uem]):
        raise InputError(f"{uem_from}: no scoring region for the recording {without[0]!r}")
    nobody = Turns.of([])
    scored = set(ids)
    excluded = {name: spans for name, spans in (excluded or {}).items() if name in scored}
    pairs = []
    for name in ids:
        turns, theirs = references.get(name, nobody), hypotheses.get(name, nobody)
        spans = uem[name] if uem is not None else _extent(turns) if region == "reference" else None
        if name in excluded:
            spans = without_spans(_extent(turns, theirs) if spans is None else spans, excluded[name])
        pairs.append(Pair(turns, theirs, spans))
    columns = {rule.name: detail_recordings(pairs, rule) for rule in rules}
    return Scores(
        rules=tuple(rules),
        region="uem" if uem is not None else region,
        overall={name: Total.of(column) for name, column in columns.items()},
        recordings={id: {rule: column[i] for rule, column in columns.items()} for i, id in enumerate(ids)},
        absent=tuple(name for name in ids if name not in hypotheses and len(references.get(name, nobody))),
        left_out=tuple(sorted(set(hypotheses) - set(ids))),
        beyond=_beyond(references, {name: hypotheses[name] for name in ids if name in hypotheses}, uem or {}),
        unreferenced=tuple(name for name in ids if name not in references),
        excluded=excluded,
        alike=near_ids(references.keys() - hypotheses.keys(), hypotheses.keys() - references.keys()),
        remarks=tuple(remarks),
    )


def board_of(systems: Mapping[str, Scores], *, name: str = "recordings", limit: int | None = None) -> Leaderboard:
    """Scores of several systems as a leaderboard of one dataset, ranked by their first rule.

    For `diarbench.compare.compare`. What a system has no hypothesis for counts as never run: it then has no rank.
    `limit` keeps the first recordings only, by id. Raises InputError for no systems, or where they have not been
    scored by the same rules over the same region.
    """
    import diarbench
    from diarbench.leaderboard import Column, Entry, Score, rank

    if not systems:
        raise InputError("no systems were given")
    some = next(iter(systems.values()))
    if any((one.rules, one.region) != (some.rules, some.region) for one in systems.values()):
        raise InputError("systems that are held against each other need the same rules and the same region")
    everything = sorted({id for one in systems.values() for id in one.recordings})
    ids = tuple(everything[:limit])
    column = Column(name, name, "", False, "", ids, len(everything), 0.0)
    entries = []
    for system, one in systems.items():
        times = {
            id: {rule: score.times for rule, score in by_rule.items()}
            for id, by_rule in one.recordings.items()
            if id in ids and id not in one.absent
        }
        jaccard = {id: {rule: score.jaccard for rule, score in one.recordings[id].items()} for id in times}
        scores = {name: Score(times, {}, tuple(id for id in ids if id not in times), jaccard)}
        entries.append(Entry(system, system, None, {}, scores, {}, None))
    return rank(
        entries,
        title=name,
        columns=[column],
        rules=some.rules,
        rule=some.rules[0],
        machines={},
        version=diarbench.__version__,
    )


def describe(rule: ScoringRule) -> str:
    """A rule in words: its collar, its overlap, and its mapping where it differs from md-eval's.

    >>> describe(parse_rule("fair", "scored"))
    '±250 ms collar, overlap scored, speakers mapped over what is scored'
    """
    return rule.label


def _some(names: Sequence[str]) -> str:
    """The first name, and whether there are more."""
    return names[0] if len(names) == 1 else f"{names[0]}, ..."


def _nothing_shared(
    references: Iterable[str], hypotheses: Iterable[str], reference_from: object, hypothesis_from: object
) -> str:
    """What is wrong where no id is on both sides; with a hint where ids are nearly the same."""
    ours, theirs = sorted(references), sorted(hypotheses)
    if not theirs:
        return f"{hypothesis_from}: no recordings in the hypotheses"
    said = (
        f"no hypothesis has the id of a reference: {reference_from} has {_some(ours)}, {hypothesis_from} has "
        f"{_some(theirs)}"
    )
    alike = near_ids(ours, theirs)
    return f"{said}; {alike}: rename one side" if alike else said


def _beyond(
    references: Mapping[str, Turns], hypotheses: Mapping[str, Turns], uem: Mapping[str, Spans]
) -> dict[str, Beyond]:
    """Hypotheses that end so far after reference and scoring region that they can't be on the same clock."""
    found = {}
    for name, turns in hypotheses.items():
        reference = references.get(name)
        ends = [float(reference.ends.max())] if reference is not None and len(reference) else []
        ends += [end for _, end in uem.get(name, ())]
        if not (ends and len(turns)):
            continue
        end, known = float(turns.ends.max()), max(ends)
        if end > _FAR_TIMES * known and end > known + _FAR_LEAST:
            found[name] = Beyond(end, known)
    return found


def _extent(*sides: Turns) -> Spans:
    """From the first to the last turn: of the reference alone, md-eval's scoring region without a UEM."""
    spoken = [turns for turns in sides if len(turns)]
    if not spoken:
        return ()
    return ((min(float(turns.starts[0]) for turns in spoken), max(float(turns.ends.max()) for turns in spoken)),)


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def _paths(value: Any) -> list[Path | str] | None:
    """A path or several, as a list; None for what is no path."""
    if _is_path(value):
        return [value]
    if isinstance(value, list | tuple) and value and all(map(_is_path, value)):
        return list(value)
    return None


class _Given(NamedTuple):
    """One side as it was handed in; turns by recording id, None for those of a recording without a name."""

    turns: dict[str | None, Turns]
    excluded: dict[str, Spans]
    remarks: list[str]


def _side(value: Any, what: Literal["reference", "hypothesis"]) -> _Given:
    def read(paths: Sequence[Path | str]) -> Side:
        return read_side(paths, reference=what == "reference")

    if (paths := _paths(value)) is not None:
        side = read(paths)
        return _Given(dict(side.turns.items()), side.excluded, list(side.remarks))
    if not isinstance(value, Mapping):
        uri = getattr(value, "uri", None)
        return _Given({str(uri) if uri is not None else None: _turns(value, what)}, {}, [])
    given = _Given({}, {}, [])
    for key, one in value.items():
        name, where = str(key), f"{what} of {key!r}"
        if (paths := _paths(one)) is None:
            given.turns[name] = _turns(one, where)
            continue
        side = read(paths)
        given.turns[name] = _only(side.turns, name, where)
        if spans := side.excluded.get(_key(side.turns, name)):
            given.excluded[name] = spans
        given.remarks.extend(side.remarks)
    return given


def _turns(value: Any, what: str) -> Turns:
    try:
        if isinstance(value, Turns):
            turns = value
        elif hasattr(value, "itertracks"):
            turns = Turns.from_annotation(value)
        else:
            turns = Turns.of(_rows(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"the {what} must be Turns, a pyannote Annotation, (start, end, speaker) rows in seconds, or paths; "
            f"got {type(value).__name__}: {error}"
        ) from error
    if len(turns) and max(abs(turns.starts[0]), turns.ends.max()) > MAX_TIME:
        raise InputError(f"the {what} has a turn further than {MAX_TIME:g} s from the start; times are seconds")
    return turns


def _rows(value: Iterable[Any]) -> Iterator[tuple[float, float, object]]:
    """The rows, each with its place in what is wrong with it. Raises ValueError, and TypeError for what has no rows."""
    for number, row in enumerate(value, start=1):
        if isinstance(row, Mapping):
            raise ValueError(f"row {number} is a {type(row).__name__}; write it as a tuple, such as (0.5, 2.0, 'Anna')")
        try:
            start, end, speaker = row
            times = float(start), float(end)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"row {number} is {str(row)[:60]!r}; a row is a tuple such as (0.5, 2.0, 'Anna')"
            ) from error
        yield *times, speaker


def _regions(value: Any) -> dict[str | None, Spans]:
    if (paths := _paths(value)) is not None:
        return dict(read_regions(paths).items())
    if not isinstance(value, Mapping):
        uri = getattr(value, "uri", None)
        return {str(uri) if uri is not None else None: _spans(value, "uem")}
    regions: dict[str | None, Spans] = {}
    for name, one in value.items():
        where = f"uem of {name!r}"
        regions[str(name)] = (
            _only(read_regions(paths), str(name), where) if (paths := _paths(one)) is not None else _spans(one, where)
        )
    return regions


def _spans(value: Any, what: str) -> Spans:
    try:
        spans = [(float(start), float(end)) for start, end in value]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"the {what} must be (start, end) pairs in seconds, a pyannote Timeline, or paths; "
            f"got {type(value).__name__}: {error}"
        ) from error
    for start, end in spans:
        if not (abs(start) <= MAX_TIME and abs(end) <= MAX_TIME and start < end):
            raise InputError(f"the {what} has the span ({start:g}, {end:g}): it must end after it starts, in seconds")
    return merge_spans(spans)


def _only(found: Mapping[str, Any], name: str, what: str) -> Any:
    """What a file says about one recording: the one of that id, else its only one."""
    if name not in found and len(found) != 1:
        raise InputError(f"the {what}: its file has {len(found)} recordings, and none of that id")
    return found[_key(found, name)]


def _key(found: Mapping[str, Any], name: str) -> str:
    return name if name in found else next(iter(found))
