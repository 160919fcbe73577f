"""`diarbench.score`: what goes in, and what comes out."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import diarbench
from diarbench.api import board_of, describe, parse_rule
from diarbench.errors import InputError
from diarbench.scoring import FAIR, FORGIVING, FULL, ScoringRule
from diarbench.types import Turns

REFERENCE = [(0.0, 10.0, "Anna"), (10.0, 20.0, "Ben")]
HYPOTHESIS = [(0.0, 12.0, "x"), (12.0, 22.0, "y")]


def text(name: str, turns) -> str:
    return "".join(f"SPEAKER {name} 1 {s} {e - s} <NA> <NA> {who} <NA> <NA>\n" for s, e, who in turns)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ref").mkdir()
    Path("ref/m.rttm").write_text(text("m", REFERENCE))
    Path("hyp.rttm").write_text(text("m", HYPOTHESIS))
    Path("m.uem").write_text("m 1 0 20\n")


def annotation(turns, uri=None):
    return Turns.of(turns).to_annotation(uri)


KINDS = {
    "rows": (REFERENCE, HYPOTHESIS),
    "a generator": ((row for row in REFERENCE), iter(HYPOTHESIS)),
    "turns": (Turns.of(REFERENCE), Turns.of(HYPOTHESIS)),
    "annotations": (annotation(REFERENCE, "m"), annotation(HYPOTHESIS)),
    "paths": ("ref", Path("hyp.rttm")),
    "several paths": (["ref/m.rttm"], ("hyp.rttm",)),
    "a path and turns": ("ref", Turns.of(HYPOTHESIS)),
    "mappings": ({"m": REFERENCE}, {"m": annotation(HYPOTHESIS)}),
    "a mapping to paths": ({"m": "ref/m.rttm"}, {"m": Path("hyp.rttm")}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("uem", [None, "rows", "timeline", "path", "mapping"])
def test_every_kind_of_side_and_region(here, kind, uem):
    from pyannote.core import Segment, Timeline

    reference, hypothesis = KINDS[kind] if kind != "a generator" else (iter(REFERENCE), (row for row in HYPOTHESIS))
    named = kind not in ("rows", "a generator", "turns")
    regions = {
        None: None,
        "rows": [(0, 5), (5, 20)],
        "timeline": Timeline([Segment(0, 8), Segment(6, 20)]),
        "path": "m.uem",
        "mapping": {"m": [(0.0, 20.0)]},
    }
    scores = diarbench.score(reference, hypothesis, regions[uem])
    assert list(scores.recordings) == ["m" if named or uem in ("path", "mapping") else "recording"]
    times = scores.overall["full"].times
    assert times.der == pytest.approx(4 / 20 if uem is None else 2 / 20)
    assert times.confusion == pytest.approx(2)
    assert times.false_alarm == pytest.approx(2 if uem is None else 0)
    assert scores.region == ("turns" if uem is None else "uem")


def test_region_of_the_reference_alone():
    scores = diarbench.score(REFERENCE, HYPOTHESIS, region="reference")
    assert scores.overall["full"].times.false_alarm == 0
    assert scores.region_in_words == "scored from the first to the last turn of the reference"
    assert diarbench.score([], HYPOTHESIS, region="reference").overall["full"].times.errors == 0
    assert diarbench.score([], HYPOTHESIS).overall["full"].times.false_alarm == pytest.approx(22)


def test_several_recordings_and_rules():
    scores = diarbench.score(
        {"a": REFERENCE, "b": [(0, 5, "A")]},
        {"a": HYPOTHESIS, "b": [(0, 5, "p"), (0, 5, "q")]},
        rules=["full", FAIR, "collar=1,overlap=skip", "full"],
    )
    assert [rule.name for rule in scores.rules] == ["full", "fair", "collar=1,overlap=skip"]
    total = scores.overall["full"]
    assert total.times == scores.recordings["a"]["full"].times + scores.recordings["b"]["full"].times
    assert total.times.der == pytest.approx((4 + 5) / 25)
    assert total.jaccard.speakers == 3
    assert dict(total.speaker_counts) == {(2, 2): 1, (1, 2): 1}
    assert total.speaker_count_error == 0.5
    assert sum(part.scored for part in total.by_concurrency) == pytest.approx(25)
    assert scores.overall["collar=1,overlap=skip"].times.scored == pytest.approx(20 - 4 + 5 - 2)


def test_to_frame():
    frame = diarbench.score({"a": REFERENCE, "b": REFERENCE}, {"a": HYPOTHESIS, "b": []}, rules=["full", "fair"])
    frame = frame.to_frame()
    assert list(frame.index) == [("full", "a"), ("full", "b"), ("fair", "a"), ("fair", "b")]
    assert frame.loc[("full", "b"), "der"] == 1.0
    assert frame.loc["full"]["missed"].sum() == pytest.approx(20)
    assert frame.loc[("fair", "a"), "jer"] == pytest.approx(
        diarbench.score(REFERENCE, HYPOTHESIS, rules=["fair"]).overall["fair"].jaccard.jer
    )


def test_what_is_missing_on_one_side_is_warned_of():
    with pytest.warns(UserWarning, match="1 recording has no hypothesis; all its speech counts as missed \\(b\\)"):
        scores = diarbench.score({"a": REFERENCE, "b": REFERENCE}, {"a": REFERENCE})
    assert scores.absent == ("b",)
    assert scores.overall["full"].times.missed == pytest.approx(20)
    with pytest.warns(UserWarning, match="1 hypothesis has no reference and is left out \\(c\\)"):
        scores = diarbench.score({"a": REFERENCE}, {"a": REFERENCE, "c": REFERENCE})
    assert scores.left_out == ("c",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diarbench.score({"a": REFERENCE, "b": []}, {"a": REFERENCE})  # nobody spoke, nobody was found


def test_no_shared_id_is_an_error():
    with pytest.raises(
        InputError,
        match=r"the reference has a, the hypothesis has A\.wav; a and A\.wav differ only in case and their ending",
    ):
        diarbench.score({"a": REFERENCE}, {"A.wav": REFERENCE})
    with pytest.raises(InputError, match="the hypothesis: no recordings in the hypotheses"):
        diarbench.score({"a": REFERENCE}, {})


def test_hypotheses_in_another_unit_are_warned_of():
    late = [(1000 * start, 1000 * end, who) for start, end, who in HYPOTHESIS]
    with pytest.warns(UserWarning, match="at 22000 s, its reference and scoring region at 20 s.*milliseconds"):
        scores = diarbench.score(REFERENCE, late)
    assert dict(scores.beyond) == {"recording": (22000, 20)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diarbench.score([(0, 1, "A")], [(0, 60, "x")])  # a short one may be overshot
        diarbench.score({"a": REFERENCE}, {"a": late}, {"a": [(0, 3000)]})


def test_a_region_makes_a_silent_recording_count():
    with pytest.warns(
        UserWarning, match=r"1 recording of the UEM has no reference \(b\): .* counts as false alarm, 2 s;"
    ):
        scores = diarbench.score(
            {"a": REFERENCE}, {"a": REFERENCE, "b": [(0, 3, "x")]}, {"a": [(0, 20)], "b": [(0, 2)]}
        )
    assert scores.overall["full"].times.false_alarm == pytest.approx(2)
    assert scores.unreferenced == ("b",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a reference says that nobody speaks
        diarbench.score(
            {"a": REFERENCE, "b": []}, {"a": REFERENCE, "b": [(0, 3, "x")]}, {"a": [(0, 20)], "b": [(0, 2)]}
        )


@pytest.mark.parametrize("uem", [None, [(1, 21)]])
@pytest.mark.parametrize("region", ["turns", "reference"])
def test_what_references_mark_is_not_scored(here, uem, region):
    mark = "NOSCORE m 1 8 6 <NA> <NA> <NA> <NA> <NA>\n"
    Path("ref/m.rttm").write_text(text("m", REFERENCE) + mark)
    Path("hyp.rttm").write_text(text("m", HYPOTHESIS) + mark.replace("8", "0"))
    start, end = uem[0] if uem else (0, 22 if region == "turns" else 20)
    expected = diarbench.score(REFERENCE, HYPOTHESIS, [(start, 8), (14, end)], rules=["full", "fair"])
    for reference in ("ref", {"m": "ref"}, {"talk": "ref"}):
        hypothesis = {next(iter(reference)): HYPOTHESIS} if isinstance(reference, dict) else HYPOTHESIS
        with pytest.warns(
            UserWarning, match="ref/m.rttm: marked as not to be scored, and left out of scoring: 6 s in 1 reg"
        ):
            found = diarbench.score(reference, hypothesis, uem, rules=["full", "fair"], region=region)
        for rule in ("full", "fair"):
            assert found.overall[rule].times == expected.overall[rule].times
        assert list(found.excluded.values()) == [((8.0, 14.0),)]
        assert found.region_in_words.endswith(", less what references mark as not to be scored")
    with pytest.warns(UserWarning, match="hyp.rttm: marked as not to be scored, and scored all the same"):
        assert diarbench.score(REFERENCE, "hyp.rttm").excluded == {}


@pytest.mark.parametrize(
    ("references", "hypotheses", "says"),
    [
        ("ab", ["a", "B"], "b and B differ only in case;"),
        ("ab", ["a", "b.wav"], "b and b.wav differ only in their ending;"),
        ("ab", ["a", "b-sys"], "b and b-sys differ only in '-sys' at the end;"),
        ("ab", ["a", "sys_b"], "b and sys_b differ only in 'sys_' at the beginning;"),
        (["a", "b_ref"], "ab", "b_ref and b differ only in '_ref' at the end;"),
        ("abc", ["a", "bX", "cX"], "b and bX differ only in 'X' at the end;"),
        ("ab", ["a", "bX"], None),  # may be chance
        (["m.1", "m.2"], ["m.1", "m.3"], None),
        (["m.1", "m.2.RTTM"], ["m.1", "m.2.wav"], "m.2.RTTM and m.2.wav differ only in their ending;"),
        ("ab", ["a", "c"], None),
    ],
)
def test_ids_that_are_nearly_the_same_are_said(references, hypotheses, says):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        diarbench.score(dict.fromkeys(references, REFERENCE), dict.fromkeys(hypotheses, REFERENCE))
    hints = [str(one.message) for one in caught if "differ only in" in str(one.message)]
    assert len(caught) == 2 + len(hints)
    assert [hint.partition(";")[0] + ";" for hint in hints] == ([says] if says else [])


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (([(1, 0, "A")], []), {}, "the reference must be Turns, .* ends before it starts"),
        (([(0, 1, "A")], [(0, float("nan"), "A")]), {}, "the hypothesis must be .* not finite"),
        ((5, []), {}, "the reference must be Turns, .* got int"),
        (([(0, 1)], []), {}, r"the reference must be Turns.*row 1 is '\(0, 1\)'; a row is a tuple such as"),
        (([("A", 0, 1)], []), {}, r"row 1 is \"\('A', 0, 1\)\"; a row is a tuple such as"),
        (([(0, 1, "A"), 3], []), {}, "row 2 is '3'; a row is a tuple such as"),
        (([{"start": 0, "end": 1, "speaker": "A"}], []), {}, r"row 1 is a dict; write it as a tuple, such as \(0.5, 2"),
        (([(0, 1e10, "A")], []), {}, "the reference has a turn further than 1e\\+09 s"),
        (({"a": [(0, "x", "A")]}, {}), {}, "the reference of 'a' must be"),
        (("nowhere.rttm", []), {}, "nowhere.rttm: can't be read"),
        ((REFERENCE, HYPOTHESIS, [(2, 1)]), {}, "the uem has the span \\(2, 1\\)"),
        ((REFERENCE, HYPOTHESIS, [(0, float("nan"))]), {}, "the uem has the span"),
        ((REFERENCE, HYPOTHESIS, (0, 20)), {}, "the uem must be \\(start, end\\) pairs"),
        (({"a": REFERENCE}, {"a": HYPOTHESIS}, {"b": [(0, 1)]}), {}, "no scoring region for the recording 'a'"),
        (({"a": REFERENCE, "b": REFERENCE}, HYPOTHESIS), {}, "without a recording id, but 2 recordings"),
        (({}, {}), {}, "no recordings in the references"),
        ((REFERENCE, HYPOTHESIS), {"rules": ["fare"]}, "no scoring rule 'fare'; did you mean fair"),
        ((REFERENCE, HYPOTHESIS), {"rules": []}, "no scoring rule was given"),
        ((REFERENCE, HYPOTHESIS), {"region": "turn"}, "no region 'turn'; did you mean turns"),
        (({"z": "ref2"}, {}), {}, "the reference of 'z': its file has 2 recordings"),
    ],
)
def test_wrong_input_is_one_line(here, arguments, options, says):
    Path("ref2").mkdir()
    Path("ref2/two.rttm").write_text(text("m", REFERENCE) + text("n", REFERENCE))
    with pytest.raises(InputError, match=says) as error:
        diarbench.score(*arguments, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "mapping", "rule"),
    [
        ("full", None, FULL),
        ("fair", "scored", ScoringRule("fair", 0.25, "score", "scored")),
        ("collar=0.25", None, ScoringRule("collar=0.25", 0.25, "score")),
        (" overlap = skip , collar=.250", None, ScoringRule("collar=0.25,overlap=skip", 0.25, "skip")),
        ("collar=0", None, ScoringRule("collar=0", 0.0, "score")),
        ("overlap=score,mapping=region", None, ScoringRule("collar=0", 0.0, "score")),
        ("mapping=scored,collar=0.1", None, ScoringRule("collar=0.1,mapping=scored", 0.1, "score", "scored")),
        ("mapping=scored,collar=0.1", "region", ScoringRule("collar=0.1", 0.1, "score")),
    ],
)
def test_rules_as_text(text, mapping, rule):
    assert parse_rule(text, mapping) == rule


def test_rules_in_words():
    assert describe(FORGIVING) == "±250 ms collar, overlap skipped"
    assert describe(parse_rule("mapping=scored")) == "no collar, overlap scored"  # where it makes no difference
    assert describe(parse_rule("collar=0.1,mapping=scored")).endswith("speakers mapped over what is scored")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("collar=250", "collar is in seconds on each side, from 0 to 10"),
        ("collar=-0.1", "collar is in seconds"),
        ("collar=nan", "collar is in seconds"),
        ("collar=", "collar is in seconds"),
        ("colar=1", "no key 'colar'; did you mean collar"),
        ("collar=1,", "no key ''; known: collar, mapping, overlap"),
        ("collar=1,overlap", "no key 'overlap'|overlap can't be ''"),
        ("overlap=skp", "overlap can't be 'skp'; did you mean skip"),
        ("collar=1,collar=2", "says collar twice"),
        ("", "no scoring rule ''"),
    ],
)
def test_wrong_rules(text, says):
    with pytest.raises(InputError, match=says):
        parse_rule(text)


def scored(hypotheses, rule="full"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return diarbench.score({"a": REFERENCE, "b": REFERENCE, "c": []}, hypotheses, rules=[rule, "forgiving"])


def test_scores_as_a_board():
    systems = {
        "part": scored({"a": REFERENCE}),
        "worse": scored({"a": HYPOTHESIS, "b": HYPOTHESIS}),
        "best": scored({"a": REFERENCE, "b": REFERENCE}),
    }
    board = board_of(systems, name="talks")
    (column,) = board.columns
    assert (board.rule, column.name, column.recordings, column.total) == (FULL, "talks", ("a", "b", "c"), 3)
    assert [(line.entry.system, line.rank) for line in board.lines] == [("best", 1), ("worse", 2), ("part", None)]
    assert board.lines[1].macro["full"] == pytest.approx(0.2)
    assert board.lines[1].macro_jer["full"] == systems["worse"].overall["full"].jaccard.jer
    assert board.lines[2].unranked == "2 of 3 recordings on talks"  # nobody speaks in c
    first = board_of(systems, limit=1)
    assert (first.columns[0].recordings, first.columns[0].total) == (("a",), 3)
    assert {line.entry.system: line.rank for line in first.lines} == {"best": 1, "part": 1, "worse": 3}


def test_scores_that_make_no_board():
    with pytest.raises(InputError, match="no systems"):
        board_of({})
    with pytest.raises(InputError, match="the same rules and the same region"):
        board_of({"a": scored({"a": REFERENCE}), "b": scored({"a": REFERENCE}, "fair")})


def test_the_module_has_what_it_says():
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        diarbench.scores  # noqa: B018
