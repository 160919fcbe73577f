"""Real outputs and the scores that their authors published (BUTSpeechFIT/DiaPer, scored with dscore; see the README
of the data): every figure to the printed 0.01.

What dscore does before it scores, found by reproducing each printed figure:
- it writes all times with three decimals (start and duration apart);
- AMI was scored inside the UEM, AISHELL-4 and VoxConverse from the first to the last turn of both sides;
- md-eval, which it calls, maps speakers once, over the whole scoring region (`mapping="region"`, ours as well);
  pyannote.metrics maps them over the time that is left outside the collars (`mapping="scored"`);
- turns of one speaker that touch stay two turns, each with its collars;
- Jaccard errors are counted on frames of 10 ms.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from diarbench.loaders.folder import read_references, read_uems
from diarbench.scoring import (
    FAIR,
    FULL,
    ErrorTimes,
    JaccardErrors,
    Pair,
    ScoringRule,
    detail_recordings,
    score_recording,
)
from diarbench.types import Spans, Turns

SYSTEMS = [
    ("ami-headset", "vbx-osd"),
    ("ami-headset", "diaper-10att-ft"),
    ("ami-headset", "diaper-20att-ft"),
    ("ami-array", "vbx-osd"),
    ("ami-array", "diaper-10att-ft"),
    ("ami-array", "diaper-20att-ft"),
    ("aishell4", "vbx-osd"),
    ("aishell4", "diaper-10att-ft"),
    ("aishell4", "diaper-20att-ft"),
]
FIGURES = ("der_pct", "missed_pct", "false_alarm_pct", "confusion_pct", "scored_seconds")
HALF_A_DIGIT = 0.005 + 1e-6

# VoxConverse, DER and confusion in %, mapped over what is scored; all other recordings are mapped alike.
OTHER_MAPPING = {
    "dzxut": (35.25, 18.86),
    "eucfa": (8.87, 8.48),
    "jzkzt": (20.20, 9.47),
    "mxduo": (6.04, 1.26),
    "vgevv": (21.97, 16.56),
    "vylyk": (98.96, 0.30),
    "xkmqx": (4.87, 3.44),
}


@cache
def references(folder: Path) -> Mapping[str, Turns]:
    return read_references(folder / "reference")


def published(folder: Path, system: str) -> dict[str, dict[str, float]]:
    with (folder / "hypotheses" / f"{system}.scores.csv").open() as file:
        return {row["recording"]: {key: float(row[key]) for key in FIGURES} for row in csv.DictReader(file)}


def in_milliseconds(turns: Turns) -> Turns:
    """Start and duration rounded apart, the duration in binary: half a millisecond falls as it fell there."""
    rows = []
    for turn in turns:
        duration = round(turn.end - turn.start, 6)
        start = round(turn.start, 3)
        rows.append((start, start + round((turn.start + duration) - turn.start, 3), turn.speaker))
    return Turns.of(rows)


def scores(
    folder: Path, system: str, rule: ScoringRule, uems: Mapping[str, Spans] | None, milliseconds: bool
) -> dict[str, dict[str, float]]:
    """Ours, laid out as the published ones."""
    hypotheses = read_references(folder / "hypotheses" / system)
    times: dict[str, ErrorTimes] = {}
    for name, reference in references(folder).items():
        sides = [in_milliseconds(turns) if milliseconds else turns for turns in (reference, hypotheses[name])]
        times[name] = score_recording(*sides, uems[name] if uems is not None else None, [rule])[rule.name]
    times["OVERALL"] = sum(times.values(), ErrorTimes.zero())
    laid_out = {}
    for name, part in times.items():
        percent = [100 * t / part.scored for t in (part.errors, part.missed, part.false_alarm, part.confusion)]
        laid_out[name] = dict(zip(FIGURES, (*percent, part.scored), strict=True))
    return laid_out


def differing(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Mapping[str, float]], by: float) -> dict:
    """Figures that differ by more, as (ours, theirs); both sides have the same recordings."""
    assert ours.keys() == theirs.keys()
    return {
        (name, key): (round(ours[name][key], 4), theirs[name][key])
        for name in ours
        for key in FIGURES
        if abs(ours[name][key] - theirs[name][key]) > by
    }


@pytest.mark.parametrize(("dataset", "system"), SYSTEMS)
def test_every_printed_figure_as_dscore_was_called(shared_data, dataset, system):
    folder = shared_data / "published" / dataset
    uems = None
    if dataset != "aishell4":
        uems = {
            name: tuple((round(start, 3), round(end, 3)) for start, end in spans)
            for name, spans in read_uems(folder / "uem").items()
        }
    ours = scores(folder, system, FULL, uems, milliseconds=True)
    assert differing(ours, published(folder, system), HALF_A_DIGIT) == {}


@pytest.mark.parametrize(("dataset", "system"), SYSTEMS)
def test_every_printed_figure_with_times_as_they_are(shared_data, dataset, system):
    """Inside the UEM and not rounded, as diarbench scores: within 0.01, and seconds within the roundings."""
    folder = shared_data / "published" / dataset
    ours = scores(folder, system, FULL, read_uems(folder / "uem"), milliseconds=False)
    found = differing(ours, published(folder, system), 0.01)
    assert {key for _, key in found} <= {"scored_seconds"}
    assert all(abs(mine - theirs) < 0.2 for mine, theirs in found.values())


def test_voxconverse_with_its_collar(shared_data):
    folder = shared_data / "published" / "voxconverse"
    ours = scores(folder, "vbx-osd", FAIR, None, milliseconds=False)
    assert len(ours) == 233  # 232 recordings, and all of them
    assert differing(ours, published(folder, "vbx-osd"), HALF_A_DIGIT) == {}


def test_voxconverse_mapped_as_pyannote_does(shared_data):
    """Where another mapping is better once the collars are gone: md-eval keeps the one for the whole region."""
    folder = shared_data / "published" / "voxconverse"
    rule = ScoringRule("fair", 0.25, "score", "scored")
    ours = scores(folder, "vbx-osd", rule, None, milliseconds=False)
    found = differing(ours, published(folder, "vbx-osd"), HALF_A_DIGIT)
    changed = {name: tuple(round(ours[name][key], 2) for key in ("der_pct", "confusion_pct")) for name, _ in found}
    assert changed.pop("OVERALL") == (6.12, 2.5)
    assert changed == OTHER_MAPPING


@pytest.mark.parametrize(("dataset", "system"), [*SYSTEMS, ("voxconverse", "vbx-osd")])
def test_every_printed_jaccard_error_rate(shared_data, dataset, system):
    """dscore counts frames of 10 ms for it; put on these frames, ours are the printed ones to 0.01."""
    folder = shared_data / "published" / dataset
    uems = read_uems(folder / "uem") if dataset.startswith("ami") else {}
    hypotheses = read_references(folder / "hypotheses" / system)
    ids = list(references(folder))
    pairs = [on_frames(references(folder)[name], hypotheses[name], uems.get(name)) for name in ids]
    details = detail_recordings(pairs, FULL)
    ours = {name: 100 * detail.jaccard.jer for name, detail in zip(ids, details, strict=True)}
    ours["OVERALL"] = 100 * sum((detail.jaccard for detail in details), JaccardErrors.zero()).jer
    with (folder / "hypotheses" / f"{system}.scores.csv").open() as file:
        theirs = {row["recording"]: float(row["jer_pct"]) for row in csv.DictReader(file)}
    assert ours == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize(("dataset", "system"), [*SYSTEMS, ("voxconverse", "vbx-osd")])
def test_jaccard_error_rates_without_frames_are_near(shared_data, dataset, system):
    folder = shared_data / "published" / dataset
    uems = read_uems(folder / "uem") if dataset.startswith("ami") else {}
    hypotheses = read_references(folder / "hypotheses" / system)
    pairs = [Pair(turns, hypotheses[name], uems.get(name)) for name, turns in references(folder).items()]
    overall = sum((detail.jaccard for detail in detail_recordings(pairs, FULL)), JaccardErrors.zero())
    with (folder / "hypotheses" / f"{system}.scores.csv").open() as file:
        theirs = {row["recording"]: float(row["jer_pct"]) for row in csv.DictReader(file)}
    assert 100 * overall.jer == pytest.approx(theirs["OVERALL"], abs=0.02)


FRAMES = 0.01 * np.arange(3_000_000)  # as dscore writes them: in binary, so a boundary on the grid may fall either way


def frame(time: float) -> int:
    return int(np.searchsorted(FRAMES, time))


def on_frames(reference: Turns, hypothesis: Turns, uem: Spans | None) -> Pair:
    sides = [
        Turns.of(
            (frame(turn.start) / 100, frame(turn.start + round(turn.end - turn.start, 6)) / 100, turn.speaker)
            for turn in turns
        )
        for turns in (reference, hypothesis)
    ]
    if uem is None:
        start = min(turns.starts.min() for turns in (reference, hypothesis))
        uem = ((float(start), float(max(turns.ends.max() for turns in (reference, hypothesis)))),)
    last = int(uem[-1][1] / 0.01)
    return Pair(*sides, tuple((frame(start) / 100, min(last, frame(end)) / 100) for start, end in uem))


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "system"), [*SYSTEMS, ("voxconverse", "vbx-osd")])
def test_every_recording_as_pyannote_scores_it(shared_data, dataset, system):
    """To 1e-9 s, inside a region, at collar 0 and ±250 ms, with overlap and without."""
    core = pytest.importorskip("pyannote.core")
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    folder = shared_data / "published" / dataset
    uems = read_uems(folder / "uem") if dataset != "voxconverse" else {}
    hypotheses = read_references(folder / "hypotheses" / system)
    rules = [ScoringRule(f"{c} {o}", c, o, "scored") for c in (0.0, 0.25) for o in ("score", "skip")]
    for name, reference in references(folder).items():
        hypothesis = hypotheses[name]
        uem = uems.get(name) or ((0.0, float(max(reference.ends.max(), hypothesis.ends.max()))),)
        ours = score_recording(reference, hypothesis, uem, rules)
        region = core.Timeline([core.Segment(*span) for span in uem])
        for rule in rules:
            metric = metrics.DiarizationErrorRate(collar=2 * rule.collar, skip_overlap=rule.overlap == "skip")
            found = metric.compute_components(
                overlaps_joined(reference).to_annotation(), overlaps_joined(hypothesis).to_annotation(), uem=region
            )
            times = ours[rule.name]
            assert (times.scored, times.missed, times.false_alarm, times.confusion) == pytest.approx(
                [found[key] for key in ("total", "missed detection", "false alarm", "confusion")], abs=1e-9
            ), (name, rule)


def overlaps_joined(turns: Turns) -> Turns:
    """A speaker's overlapping turns as one; those that touch stay two, which pyannote's support() would join."""
    rows: list[list] = []
    for turn in sorted(turns, key=lambda turn: (turn.speaker, turn.start)):
        if rows and rows[-1][2] == turn.speaker and turn.start < rows[-1][1]:
            rows[-1][1] = max(rows[-1][1], turn.end)
        else:
            rows.append([*turn])
    return Turns.of(map(tuple, rows))
