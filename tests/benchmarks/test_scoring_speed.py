"""How fast scoring is, against others in the same run. Numbers are printed, never asserted: machines are noisy.
What each computes is asserted: a fast wrong answer is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made_up import conversation, dataset

from diarbench.loaders.folder import read_references
from diarbench.rttm import format_rttm
from diarbench.scoring import FAIR, RULES, ErrorTimes, Pair, score_recordings
from diarbench.scoring.statistics import Stratum, interval, permutation_p, resampled_ders

SET = "VoxConverse test, ±250 ms"


@pytest.fixture(scope="module")
def voxconverse(request) -> Mapping[str, Pair]:
    """The published outputs, or made-up recordings of similar size where they are not there."""
    try:
        folder = request.getfixturevalue("shared_data") / "published" / "voxconverse"
    except pytest.skip.Exception:
        return dataset()
    references = read_references(folder / "reference")
    hypotheses = read_references(folder / "hypotheses" / "vbx-osd")
    pairs = {}
    for name, reference in references.items():
        hypothesis = hypotheses[name]
        first = min(side.starts.min() for side in (reference, hypothesis))
        last = max(side.ends.max() for side in (reference, hypothesis))
        pairs[name] = Pair(reference, hypothesis, ((float(first), float(last)),))
    return pairs


def total(scores: list[dict[str, ErrorTimes]], rule: str) -> ErrorTimes:
    return sum((times[rule] for times in scores), ErrorTimes.zero())


@pytest.mark.parametrize(("name", "rules"), [("three rules", list(RULES.values())), ("one rule", [FAIR])])
def test_diarbench(timed, voxconverse, name, rules):
    pairs = list(voxconverse.values())
    scores = timed(f"diarbench, {name}", lambda: score_recordings(pairs, rules), group=SET)
    assert len(scores) == len(pairs)


def spyder_turns(voxconverse: Mapping[str, Pair]) -> tuple[dict, dict, dict]:
    sides = ({}, {}, {})
    for name, pair in voxconverse.items():
        for side, turns in zip(sides, (pair.reference, pair.hypothesis), strict=False):
            side[name] = [(turn.speaker, turn.start, turn.end) for turn in turns]
        sides[2][name] = list(pair.uem)
    return sides


def test_spyder(timed, voxconverse):
    spyder = pytest.importorskip("spyder", reason="spyder is not installed: pip install --no-deps spy-der==0.4.1")
    sides = spyder_turns(voxconverse)
    found = timed("spyder.DER, one rule", lambda: spyder.DER(*sides, collar=0.25), group=SET)["Overall"]
    ours = total(score_recordings(list(voxconverse.values()), [FAIR]), "fair")
    assert found.der == pytest.approx(ours.der, abs=2e-4)


def test_spyder_without_python(timed, voxconverse):
    """Its inner function on turns that are in its own lists already."""
    pytest.importorskip("spyder", reason="spyder is not installed: pip install --no-deps spy-der==0.4.1")
    from _spyder import Turn, TurnList, compute_der

    def listed(rows):
        return TurnList([Turn(*row) for row in rows])

    def fresh():  # it changes what it is given
        references, hypotheses, regions = spyder_turns(voxconverse)
        return [
            (listed(references[name]), listed(hypotheses[name]), listed([("region", *span) for span in regions[name]]))
            for name in references
        ]

    rounds = iter([fresh() for _ in range(16)])

    def score():
        return [compute_der(*lists, regions="all", collar=0.25) for lists in next(rounds)]

    assert len(timed("spyder, C++ alone, one rule", score, group=SET)) == len(voxconverse)


@pytest.mark.filterwarnings("ignore")
def test_pyannote(timed, voxconverse):
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    sides = [
        (pair.reference.to_annotation(), pair.hypothesis.to_annotation(), Timeline([Segment(*s) for s in pair.uem]))
        for pair in voxconverse.values()
    ]

    def score():
        metric = DiarizationErrorRate(collar=0.5)
        for reference, hypothesis, region in sides:
            metric(reference, hypothesis, uem=region)
        return abs(metric)

    found = timed("pyannote.metrics, one rule", score, group=SET, rounds=3, warm=0)
    ours = total(score_recordings(list(voxconverse.values()), [FAIR]), "fair")
    assert found == pytest.approx(ours.der, abs=2e-3)  # it maps speakers over what is scored


def test_ten_hours(timed):
    pair = conversation(0, turns=20_000, speakers=20, seconds=36_000.0)
    timed("10 hours, 20,000 turns, 20 speakers", lambda: score_recordings([pair], list(RULES.values())))


@pytest.mark.parametrize("turns", [1_000, 3_000, 10_000, 30_000, 100_000])
def test_growth(timed, turns):
    pair = conversation(0, turns=turns, speakers=20, seconds=1.8 * turns)
    timed(f"growth, {turns:,} turns", lambda: score_recordings([pair], list(RULES.values())), group="growth")


def test_from_folders_to_table(timed, voxconverse, tmp_path: Path, capfd):
    from diarbench.cli import app

    for side in ("reference", "hypothesis"):
        (tmp_path / side).mkdir()
        for name, pair in voxconverse.items():
            (tmp_path / side / f"{name}.rttm").write_text(format_rttm(name, getattr(pair, side)))
    words = ["score", "-r", str(tmp_path / "reference"), "-y", str(tmp_path / "hypothesis")]
    timed("RTTM folders to table", lambda: app(args=words, prog_name="diarbench", standalone_mode=False), rounds=5)
    assert next(iter(voxconverse)) in capfd.readouterr().out


def thirty_systems() -> Stratum:
    generator = np.random.default_rng(0)
    scored = generator.gamma(2.0, 300.0, 1000)
    return Stratum(scored, scored * generator.gamma(1.5, 0.1, (30, 1000)))


def test_bootstrap(timed):
    stratum = thirty_systems()

    def all_against_the_first():
        replicates = resampled_ders([stratum], resamples=10_000)
        contrasts = np.eye(30)[1:] - np.eye(30)[0]
        return [interval([stratum], contrast.tolist(), replicates=replicates) for contrast in contrasts]

    found = timed("10,000 resamples, 1,000 recordings, 30 systems", all_against_the_first, rounds=5)
    assert len(found) == 29


def test_permutation(timed):
    stratum = thirty_systems()

    def all_against_the_first():
        return [permutation_p([stratum], 0, other) for other in range(1, 30)]

    assert len(timed("29 permutation tests, 10,000 swaps each", all_against_the_first, rounds=3)) == 29
