"""From stored runs to a leaderboard: reads the store, scores anew, ranks."""

from __future__ import annotations

import contextlib
import gc
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import diarbench
from diarbench import memo
from diarbench.costs import Measured, read_complexity, read_measured
from diarbench.errors import InputError, RttmError, StoreError, did_you_mean
from diarbench.files import digest_of, sha256_of
from diarbench.leaderboard import REST, Column, Entry, Leaderboard, Place, Score, Speed, rank
from diarbench.measure.beside import COMPANY
from diarbench.scoring import ErrorTimes, JaccardErrors, Pair, RecordingScore, ScoringRule, score_everything
from diarbench.store import (
    RunFolder,
    Stored,
    StoredDataset,
    find_datasets,
    find_machines,
    find_measures,
    find_runs,
)
from diarbench.types import Complexity, Seconds


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which would walk again and again through millions of small objects that all stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_uncollected()
def read_board(
    roots: Sequence[Path],
    *,
    title: str,
    rules: Sequence[ScoringRule],
    rule: ScoringRule,
    systems: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    limit: int | None = None,
    only: Iterable[RunFolder] | None = None,
    baseline: str | None = None,
) -> Leaderboard:
    """The leaderboard of the runs stored below `roots`.

    Of each dataset the version that ran last is shown, of each system the newest run of that version at each
    place. `only` narrows it to certain runs; `limit` to the first recordings of each dataset. `baseline` is what all
    differences are taken against, whatever the cards say. Raises InputError where a name has no run, or nothing is
    stored at all.
    """
    runs = find_runs(roots)
    if only is not None:
        wanted = {folder.path.resolve() for folder in only}
        runs = [run for run in runs if run.path.resolve() in wanted]
    if not runs:
        where = ", ".join(map(str, roots))
        raise InputError(f"no results in {where}; make some with `diarbench run`, or name another folder with --runs")
    current = _identities(runs)
    runs = _chosen(runs, "system", systems)
    runs = _chosen(runs, "dataset", datasets)
    stored = find_datasets(roots)
    names = list(datasets) if datasets is not None else sorted({run.run["dataset"] for run in runs})
    versions = {name: _newest_version(name, runs, stored) for name in names}
    columns = [_column(versions[name], limit) for name in names]
    order = list(systems) if systems is not None else sorted({run.run["system"] for run in runs})
    entries = [
        _entry(name, [run for run in runs if run.run["system"] == name], columns, versions, rules) for name in order
    ]
    measures = find_measures(roots)
    entries = [_with_measures(entry, measures, current) for entry in entries]
    if baseline is not None:
        if baseline not in order:
            raise InputError(f"the baseline {baseline!r} is no system of this board{did_you_mean(baseline, order)}")
        entries = [replace(entry, baseline=None if entry.system == baseline else baseline) for entry in entries]
    return rank(
        entries,
        title=title,
        columns=columns,
        rules=rules,
        rule=rule,
        machines=find_machines(roots),
        version=diarbench.__version__,
    )


def _chosen(runs: list[RunFolder], key: str, names: Sequence[str] | None) -> list[RunFolder]:
    known = {run.run[key] for run in runs}
    for name in names or ():
        if name not in known:
            raise InputError(f"no stored run of the {key} {name!r}{did_you_mean(name, known)}")
    return [run for run in runs if names is None or run.run[key] in names]


def _newest_version(
    name: str, runs: Sequence[RunFolder], stored: Mapping[tuple[str, str], StoredDataset]
) -> StoredDataset:
    newest = max((run for run in runs if run.run["dataset"] == name), key=lambda run: run.newest)
    digest = newest.run["identity"]["dataset"]
    if (name, digest) not in stored:
        raise StoreError(
            f"{newest.path}: the references of {name} (version {digest[:12]}) are not stored beside the runs; "
            "copy the folder _datasets too, or run the system again"
        )
    return stored[name, digest]


def _column(dataset: StoredDataset, limit: int | None) -> Column:
    facts = dataset.facts
    recordings = facts["recordings"][:limit]
    return Column(
        name=facts["name"],
        title=facts["title"],
        digest=facts["digest"],
        synthetic=facts.get("synthetic", False),
        licence=facts["licence"],
        recordings=tuple(recording["id"] for recording in recordings),
        total=len(facts["recordings"]),
        audio=sum(recording["duration"] for recording in recordings),
        corpus=facts.get("corpus"),
        part=facts.get("part"),
    )


def _entry(
    name: str,
    runs: Sequence[RunFolder],
    columns: Sequence[Column],
    versions: Mapping[str, StoredDataset],
    rules: Sequence[ScoringRule],
) -> Entry:
    """One system: scores from its best run of each dataset, speeds from every place it ran at."""
    scores: dict[str, Score] = {}
    speeds: dict[Place, list[Speed | None]] = {}
    stages: dict[Place, list[Mapping[str, Seconds] | None]] = {}
    macs: list[int | None] = []
    sources: list[RunFolder] = []
    problems: list[str] = []
    uncounted: dict[Place, list[_Uncounted]] = {}
    for column in columns:
        versions_run = [run for run in runs if run.run["dataset"] == column.name]
        newest, late = _newest_runs([run for run in versions_run if run.run["identity"]["dataset"] == column.digest])
        if not newest:
            if versions_run:
                problems.append(f"{column.name}: it ran on another version of the dataset; run it again on this one")
            continue
        problems += [f"{column.name}: {problem}" for problem in late]
        stored = {place: run.all_stored() for place, run in newest.items()}
        scored = {
            place: _score(run, stored[place], column, versions[column.name], rules) for place, run in newest.items()
        }
        # The complete one that ran last speaks for the dataset.
        best = max(newest, key=lambda place: (scored[place].complete, newest[place].newest))
        scores[column.name] = scored[best]
        sources.append(newest[best])
        problems += _disagreement(column, scored, best, rules[0].name)
        problems += _load_problems(newest[best], column, scored[best])
        counts = [_macs(stored[place], column) for place in (best, *newest)]
        macs.append(next((count for count in counts if count is not None), None))
        for place in newest:
            speeds.setdefault(place, []).append(_speed(stored[place], column))
            stages.setdefault(place, []).append(_stages(stored[place], column))
            uncounted.setdefault(place, []).append(_uncounted(stored[place], column))
    if len({_system_identity(run) for run in sources}) > 1:
        problems.append("its results on different datasets come from different versions of the system or its libraries")
    latest = max(runs, key=lambda run: run.newest, default=None)
    card: Mapping[str, Any] = latest.run["card"] if latest is not None else {}
    totals = {place: total for place, parts in speeds.items() if (total := _total(parts, len(columns))) is not None}
    return Entry(
        system=name,
        title=card.get("title", name),
        baseline=card.get("baseline"),
        compression=card.get("compression", {}),
        scores=scores,
        speeds=totals,
        complexity=_complexity(sources),
        problems=tuple(dict.fromkeys(problems)),
        timings_left_out=tuple(text for place, parts in uncounted.items() if (text := _left_out(place, parts))),
        provenance=tuple({**run.run, "sessions": run.sessions} for run in sources),
        stages={
            place: shares
            for place, total in totals.items()
            if (shares := _all_stages(stages[place], total.wall)) is not None
        },
        pipeline_macs=_per_second(macs, columns),
        trained_parts=tuple(card.get("trained_parts", ())),
        may_have_seen=tuple(card.get("may_have_seen", ())),
    )


def _identities(runs: Sequence[RunFolder]) -> dict[str, list[Mapping[str, Any]]]:
    """By system: the versions of it that ran last, on any dataset at any place."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    by_dataset: dict[tuple[str, str], list[RunFolder]] = {}
    for run in runs:
        by_dataset.setdefault((run.run["system"], run.run["dataset"]), []).append(run)
    for (system, _), group in by_dataset.items():
        newest, _ = _newest_runs(group)
        found.setdefault(system, []).extend(run.run["identity"]["system"] for run in newest.values())
    return found


def _with_measures(
    entry: Entry, sessions: Sequence[Mapping[str, Any]], current: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Entry:
    """The entry with the newest measuring session at each place, of the version that the board shows; and notes on
    what is not shown."""
    measured: dict[Place, Measured] = {}
    notes: dict[Place, str] = {}
    for session in sessions:
        found = session["systems"].get(entry.system)
        if found is None:
            continue
        place = Place(session["machine"], session["device"], session["threads"])
        where = f"{place.label} on {place.machine}"
        baseline = session["systems"].get(session["baseline"], {})
        if found.get("error"):
            notes[place] = f"it could not be measured on {where}: {found['error']}"
        elif found.get("identity") not in current[entry.system]:
            notes[place] = f"what was measured on {where} was another version of it, and is not shown; measure it again"
        elif session["baseline"] in current and baseline.get("identity") not in current[session["baseline"]]:
            notes[place] = (
                f"on {where} it was measured against another version of {session['baseline']}, and is not shown; "
                "measure both again"
            )
        else:
            notes.pop(place, None)
            one = read_measured(session, entry.system)
            # Encoders with random weights tell less: they stand in only where nothing else is known.
            if one.weights or place not in measured or not measured[place].weights:
                measured[place] = one
    return replace(entry, measured=measured, notes=(*entry.notes, *notes.values()))


def _newest_runs(runs: Sequence[RunFolder]) -> tuple[dict[Place, RunFolder], list[str]]:
    """The newest run at each place; and what is to be said where it never got as far as a recording, and an older
    one is shown."""
    newest: dict[Place, RunFolder] = {}
    problems = []
    for run in sorted(runs, key=lambda run: run.newest):
        if run.place in newest and not run.has_results:
            error = run.sessions[-1]["error"] if run.sessions else None
            problems.append(f"its newest version could not run ({error or 'it was stopped'}); an older one is shown")
        else:
            newest[run.place] = run
    return newest, problems


def _score(
    run: RunFolder,
    stored: Mapping[str, Stored],
    column: Column,
    dataset: StoredDataset,
    rules: Sequence[ScoringRule],
) -> Score:
    scores: dict[str, Mapping[str, RecordingScore]] = {}
    failures, missing = {}, []
    salt = digest_of([_scoring_digest(), dataset.digests, [astuple(rule) for rule in rules]])
    known = memo.recall(run.path, salt) if len(stored) >= memo.WORTHWHILE else {}
    fresh: dict[str, Pair] = {}
    for recording_id in column.recordings:
        if recording_id not in stored:
            missing.append(recording_id)
            continue
        result, intact = stored[recording_id]
        if result["status"] == "failed":
            failures[recording_id] = result["error"]
        elif not intact:
            failures[recording_id] = "its stored RTTM is not the one that the run wrote; run the system again"
        elif recording_id in known and known[recording_id][0] == result["rttm_sha256"]:
            scores[recording_id] = {
                rule: RecordingScore(ErrorTimes(*times), JaccardErrors(*errors))
                for rule, (times, errors) in known[recording_id][1].items()
            }
        else:
            try:
                hypothesis = run.hypothesis(recording_id)
            except RttmError as error:
                failures[recording_id] = f"its stored RTTM can't be read: {error.problem}"
                continue
            uem = dataset.uems.get(recording_id, ())
            fresh[recording_id] = Pair(dataset.references[recording_id], hypothesis, uem)
    scores.update(zip(fresh, score_everything(list(fresh.values()), rules), strict=True))
    # In one order whatever was kept, so that sums agree to the last digit.
    scores = {name: scores[name] for name in column.recordings if name in scores}
    if len(fresh) >= memo.WORTHWHILE:
        scored = {
            name: [stored[name].result["rttm_sha256"], {rule: astuple(found) for rule, found in by_rule.items()}]
            for name, by_rule in scores.items()
        }
        memo.keep(run.path, salt, {**known, **scored})
    return Score(
        {name: {rule: found.times for rule, found in by_rule.items()} for name, by_rule in scores.items()},
        failures,
        tuple(missing),
        {name: {rule: found.jaccard for rule, found in by_rule.items()} for name, by_rule in scores.items()},
    )


@cache
def _scoring_digest() -> str:
    """Of the code that scores are made with."""
    package = Path(diarbench.__file__).parent
    files = [package / "rttm.py", package / "types.py", *sorted((package / "scoring").glob("*.py"))]
    return digest_of([sha256_of(path) for path in files])


def _speed(stored: Mapping[str, Stored], column: Column) -> Speed | None:
    """Time over all recordings of the column; None unless each was timed with the machine to itself."""
    total = Speed(0.0, 0.0)
    for recording_id in column.recordings:
        if recording_id not in stored:
            return None
        result = stored[recording_id].result
        if result["status"] != "done" or not result["timing_counts"]:
            return None
        total = total + Speed(result["timing"]["wall"], result["timing"]["audio"])
    return total


def _stages(stored: Mapping[str, Stored], column: Column) -> Mapping[str, Seconds] | None:
    """Exclusive time by stage over all recordings of the column; None where one has none that can be read."""
    found = []
    for recording_id in column.recordings:
        timing = stored[recording_id].result.get("timing") if recording_id in stored else None
        if timing is None or not all(map(_is_count, timing["stages"].values())):
            return None
        found.append(timing["stages"])
    return _added(found)


def _all_stages(parts: Sequence[Mapping[str, Seconds] | None], wall: Seconds) -> Mapping[str, Seconds] | None:
    """The stages of all columns, and the rest of the time; None where the system marks none."""
    known = [part for part in parts if part is not None]
    total = _added(known)
    if len(known) < len(parts) or not total:
        return None
    rest = max(0.0, wall - sum(total.values()))
    return {**total, REST: total.get(REST, 0.0) + rest}


def _added(parts: Iterable[Mapping[str, Seconds]]) -> dict[str, Seconds]:
    total: dict[str, Seconds] = {}
    for part in parts:
        for stage, seconds in part.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


def _macs(stored: Mapping[str, Stored], column: Column) -> int | None:
    """Multiply-accumulates over all recordings of the column; None unless each was counted."""
    total = 0
    for recording_id in column.recordings:
        macs = stored[recording_id].result.get("macs") if recording_id in stored else None
        if not isinstance(macs, dict) or not macs or not all(isinstance(count, int) for count in macs.values()):
            return None
        total += sum(macs.values())
    return total


def _per_second(macs: Sequence[int | None], columns: Sequence[Column]) -> float | None:
    """Multiply-accumulates per second of audio, over all columns; None unless all were counted."""
    known = [count for count in macs if count is not None]
    audio = sum(column.audio for column in columns)
    return sum(known) / audio if len(known) == len(columns) and audio > 0 else None


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Uncounted(NamedTuple):
    """Timings on one dataset that don't count."""

    dataset: str
    of: int  # timings
    reasons: list[str]  # one for each that doesn't count


def _uncounted(stored: Mapping[str, Stored], column: Column) -> _Uncounted:
    results = [stored[name].result for name in column.recordings if name in stored]
    timed = [result.get("timing_problem") for result in results if result.get("timing")]
    return _Uncounted(column.name, len(timed), [reason for reason in timed if reason])


def _left_out(place: Place, parts: Sequence[_Uncounted]) -> str:
    """Why a place shows no speed, though the system was timed there; empty where no timing is left out."""
    reasons = Counter(reason for part in parts for reason in part.reasons)
    if not reasons:
        return ""
    ((example, _),) = reasons.most_common(1)
    where = ", ".join(part.dataset for part in parts if part.reasons)
    # What used too many cores would do so again: the reason names the option that gives it more.
    remedy = "; --again makes them anew" if example == COMPANY else ""
    return (
        f"no speed for {place.label} on {place.machine}: {reasons.total()} of {sum(part.of for part in parts)} timings "
        f"don't count ({where}: {example}){remedy}"
    )


def _total(parts: Sequence[Speed | None], expected: int) -> Speed | None:
    known = [part for part in parts if part is not None]
    if len(known) < expected:
        return None
    return sum(known[1:], known[0])


def _disagreement(column: Column, scored: Mapping[Place, Score], best: Place, rule: str) -> list[str]:
    """Places whose outputs score differently from the ones shown."""
    shown = scored[best].der(rule)
    problems = []
    for place, score in scored.items():
        other = score.der(rule)
        if place != best and shown is not None and other is not None and abs(shown - other) >= 5e-5:
            problems.append(
                f"{column.name}: {place.label} on {place.machine} gives {other:.2%} DER, "
                f"{best.label} on {best.machine} (shown) {shown:.2%}"
            )
    return problems


def _load_problems(run: RunFolder, column: Column, score: Score) -> list[str]:
    error = run.sessions[-1].get("error") if run.sessions else None
    return [f"{column.name}: {error}"] if error and not score.complete else []


def _system_identity(run: RunFolder) -> str:
    """What is the same on all datasets; a file called as one of them is of that alone (a replay's outputs)."""
    identity = run.run["identity"]["system"]
    files = {name: digest for name, digest in identity.get("files", {}).items() if name != run.run["dataset"]}
    return str(sorted({**identity, "files": files}.items()))


def _complexity(runs: Sequence[RunFolder]) -> Complexity | None:
    for run in sorted(runs, key=lambda run: run.newest, reverse=True):
        if (value := run.run.get("complexity")) is not None:
            return read_complexity(value, f"{run.path / 'run.json'}, complexity")
    return None


def shown_runs(roots: Sequence[Path], board: Leaderboard) -> dict[str, tuple[StoredDataset, dict[str, RunFolder]]]:
    """By dataset of a board that was read from `roots`: its stored references, and by system the run that speaks for it
    there. A system that never ran on it has none."""
    runs = [(run, {**run.run, "sessions": run.sessions}) for run in find_runs(roots)]
    stored = find_datasets(roots)
    found: dict[str, tuple[StoredDataset, dict[str, RunFolder]]] = {}
    for column in board.columns:
        folders = {
            line.entry.system: run
            for line in board.lines
            for run, facts in runs
            if facts["dataset"] == column.name and facts in line.entry.provenance
        }
        found[column.name] = stored[column.name, column.digest], folders
    return found
