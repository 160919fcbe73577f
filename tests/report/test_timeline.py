"""Timelines and their page without a browser: who stands where, what is drawn, and what the page weighs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from itertools import pairwise
from typing import Any

import meetings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Page, read_page

from diarbench.report import make_timeline, render_timeline_html, timelines_json
from diarbench.report.timeline import Lane, hypothesis_lanes, joined, reference_lanes
from diarbench.scoring import FAIR, FORGIVING, FULL, score_recording
from diarbench.types import Turns

KINDS = ("missed", "false_alarm", "confusion")
TWO_MEGABYTES = 2_000_000


def rendered(*shown: Any, **more: Any) -> Page:
    return read_page(render_timeline_html(meetings.page_of(*shown, **more), generated="now"))


def data_of(page: Page) -> dict[str, Any]:
    return dict(json.loads(page.root["timelines"].raw))


def drawn(data: dict[str, Any], system: int) -> dict[str, float]:
    """Seconds of each kind of error that the page draws for a system, weighted by speakers."""
    sums = dict.fromkeys(KINDS, 0.0)
    for row in data["blocks"][1 + system]["rows"]:
        if row["kind"] == "error":
            for length, what in zip(row["spans"][1::3], row["spans"][2::3], strict=True):
                sums[KINDS[row["hue"]]] += length / 1000 * data["texts"][what][1]
    return sums


# --- who stands where


def test_speakers_of_the_reference_stand_as_they_first_speak():
    assert [(lane.name, lane.hue) for lane in reference_lanes(meetings.small())] == [
        ("Ben", 1),
        ("Anna", 2),
        ("Cleo", 3),
    ]


def test_mapped_speakers_have_place_and_colour_of_their_partner_and_others_are_grey_and_last():
    timeline = meetings.small()
    first, second = (hypothesis_lanes(timeline, answer) for answer in timeline.answers)
    assert [(lane.name, lane.partner, lane.hue) for lane in first] == [("x", "Ben", 1), ("y", "Anna", 2), ("z", "", 0)]
    # Names mean nothing: the Ben of a hypothesis is whom it is mapped to.
    assert [(lane.name, lane.partner, lane.hue) for lane in second] == [("Ben", "Ben", 1)]
    swapped = make_timeline("t", Turns.of([(0, 4, "A"), (4, 6, "B")]), None, {"s": Turns.of([(0, 4, "B")])}, FULL)
    assert hypothesis_lanes(swapped, swapped.answers[0]) == [Lane("B", "A", 1, ((0, 4),))]


def test_the_mapping_is_that_of_the_rule():
    # Outside the collars x speaks with B alone; over the whole region more with A.
    reference = [(0, 0.5, "A"), (1, 1.5, "A"), (2, 2.5, "A"), (10, 11.2, "B")]
    hypothesis = [(0, 0.5, "x"), (1, 1.5, "x"), (2, 2.5, "x"), (10, 11.2, "x")]
    partners = {}
    for rule in (FAIR, FAIR.__class__("scored", 0.25, "score", "scored")):
        timeline = make_timeline("t", Turns.of(reference), None, {"s": Turns.of(hypothesis)}, rule)
        partners[rule.name] = [lane.partner for lane in hypothesis_lanes(timeline, timeline.answers[0])]
    assert partners == {"fair": ["A"], "scored": ["B"]}


def test_very_many_speakers_share_a_lane():
    reference = [(2 * place, 2 * place + 1, f"r{place:02}") for place in range(40)]
    hypothesis = [(200 + 2 * place, 201 + 2 * place, f"h{place:02}") for place in range(30)]
    timeline = make_timeline("t", Turns.of(reference), None, {"s": Turns.of(hypothesis)}, FULL)
    lanes = reference_lanes(timeline)
    assert (len(lanes), lanes[-1].name, len(lanes[-1].spans), lanes[-1].hue) == (31, "10 more", 10, 0)
    assert {lane.hue for lane in lanes[:-1]} == set(range(1, 8))
    others = hypothesis_lanes(timeline, timeline.answers[0])
    assert (len(others), others[-1].name, len(others[-1].spans)) == (13, "18 more", 18)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=20))
def test_lanes_never_overlap_and_lose_no_time(rows):
    spans = joined((start, start + length) for start, length in rows)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    covered = {time for start, length in rows for time in range(start, start + length)}
    assert sum(end - start for start, end in spans) == len(covered)


# --- what is drawn


@settings(max_examples=40)
@given(st.data())
def test_what_the_page_draws_adds_up_to_the_error_times(data):
    def turns(speakers: str) -> Turns:
        one = st.tuples(st.integers(0, 1500), st.integers(1, 400), st.sampled_from(speakers))
        rows = data.draw(st.lists(one, max_size=12))
        return Turns.of([(start / 100, (start + length) / 100, who) for start, length, who in rows])

    reference, hypotheses = turns("ABCD"), {"first": turns("wxyz"), "second": turns("wx")}
    region = data.draw(st.sampled_from([None, (), ((1.0, 3.0), (4.0, 12.0)), ((-2.0, 30.0),)]))
    rule = data.draw(st.sampled_from([FULL, FAIR, FORGIVING]))
    page = rendered(make_timeline("t", reference, region, hypotheses, rule), rule=rule)
    for system, hypothesis in enumerate(hypotheses.values()):
        times = score_recording(reference, hypothesis, region, [rule])[rule.name]
        expected = {kind: getattr(times, kind) for kind in KINDS}
        assert drawn(data_of(page)["timeline-0"], system) == pytest.approx(expected, abs=1e-6)


def test_what_is_not_scored_is_drawn_with_its_reason():
    data = data_of(rendered(meetings.small(FORGIVING), rule=FORGIVING))["timeline-0"]
    for block in data["blocks"]:
        reasons = {data["reasons"][what] for what in block["unscored"][2::3]}
        assert reasons == {"in a collar", "overlap, which is skipped"}
    nobody = make_timeline("t", Turns.of([(0, 4, "A")]), ((1, 2), (3, 5)), {"s": Turns.of([(0, 9, "x")])}, FULL)
    (reference, system) = data_of(rendered(nobody))["timeline-0"]["blocks"]
    assert system["unscored"] == [0, 1000, 0, 1000, 1000, 0, 2000, 4000, 0]
    assert reference["unscored"] == system["unscored"]


def test_the_reference_is_not_shaded_where_any_system_is_scored():
    # Without a region each system is scored over its own extent.
    hypotheses = {"short": Turns.of([(2, 3, "x")]), "long": Turns.of([(0, 9, "x")])}
    timeline = make_timeline("t", Turns.of([(2, 4, "A")]), None, hypotheses, FULL)
    assert timeline.unscored == ()
    assert (timeline.start, timeline.end) == (0, 9)
    short, long = ([(gap.start, gap.end, gap.why) for gap in answer.unscored] for answer in timeline.answers)
    assert (short, long) == ([(0, 2, "outside"), (4, 9, "outside")], [])


def test_the_picture_needs_no_script_and_marks_the_errors():
    page = rendered(meetings.small())
    (picture,) = (one for one in page.root.all("svg") if "still" in one.classes)
    paths = [(path.classes[0], path.attributes["d"]) for path in picture.all("path")]
    # 25 s are 1200 units; by `first`:
    assert ("missed", "M240.0 0H288.0M768.0 0H912.0") in paths
    assert ("false-alarm", "M1056.0 0H1104.0") in paths
    assert ("confusion", "M288.0 0H312.0M576.0 0H720.0") in paths
    assert [text.text for text in picture.all("text")] == ["0:00", "0:05", "0:10", "0:15", "0:20"]
    labels = next(one for one in page.root.all("div") if "labels" in one.classes)
    assert labels.text.split()[:6] == ["reference", "Ben", "Anna", "Cleo", "first", "x"]


def test_scores_and_longest_errors_are_in_the_document():
    page = rendered(meetings.small())
    scores, longest, _ = (table for table in page.root.all("table"))
    assert [row.text for row in scores.all("tr")][
        1
    ] == "first 53.1 % 25.0 % (4.00 s) 6.2 % (1.00 s) 21.9 % (3.50 s) 16.00 s 5 3"
    rows = [row.text for row in longest.all("tr")][1:]
    assert rows[0] == "0:12.00 12.00–15.00 3.00 confusion Ben taken for y"
    assert rows[1] == "0:16.00 16.00–19.00 3.00 missed Cleo"
    assert len(rows) == 5


def test_a_system_without_a_result_says_why():
    timeline = make_timeline("t", Turns.of([(0, 4, "A")]), None, {"a": "failed: it fell over", "b": Turns.of([])}, FULL)
    page = rendered(timeline)
    assert "failed: it fell over" in next(page.root.all("table")).text
    assert [block["name"] for block in data_of(page)["timeline-0"]["blocks"]] == ["reference", "a", "b"]


def test_a_recording_in_which_nobody_speaks():
    for region in (None, (), ((0.0, 9.0),)):
        timeline = make_timeline("t", Turns.of([]), region, {"a": Turns.of([])}, FULL)
        assert timeline.end > timeline.start
        assert "–" in next(rendered(timeline).root.all("table")).text
    assert "There is no recording to show" in rendered().root.text


def test_datasets_are_named_where_there_are_several():
    one, other = (make_timeline(name, Turns.of([]), None, {}, FULL, dataset=name.upper()) for name in "ab")
    assert [head.text for head in rendered(one, other).root.all("h2")] == ["A: a", "B: b"]
    assert [head.text for head in rendered(one).root.all("h2")] == ["a"]
    assert [head.text for head in rendered(one, left_out=(("B", "b"),)).root.all("h2")] == ["A: a"]


# --- the page as a file


def test_the_policy_names_the_style_and_the_script_that_are_there():
    page = rendered(meetings.small())
    (policy,) = (m.attributes["content"] for m in page.root.all("meta") if "http-equiv" in m.attributes)
    script = [one.raw for one in page.root.all("script") if "type" not in one.attributes]
    assert len(script) == 1
    for source, kind in ((script[0], "script-src"), (next(page.root.all("style")).raw, "style-src")):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert not re.search(r"<[^>]+ (style|on\w+)=", page.source.split("<script")[0])


def test_hostile_names_are_text():
    name = "</script><img src=x onerror=alert(1)>\u202e"
    answers = {name: Turns.of([(0, 4, name)])}
    page = rendered(make_timeline(name, Turns.of([(1, 5, name)]), None, answers, FULL, dataset=name), title=name)
    assert not list(page.root.all("img"))
    assert "\u202e" not in page.source
    assert name[:-1] in next(page.root.all("h1")).text
    assert name[:-1] in data_of(page)["timeline-0"]["blocks"][1]["name"]


def test_a_long_meeting_stays_small():
    timeline = meetings.long_meeting()
    assert timeline.marks > 25_000
    page = rendered(timeline)
    assert len(page.source.encode()) < TWO_MEGABYTES
    picture = page.source.split('<svg class="still"')[1].split("<canvas")[0]
    assert len(picture) < 500_000


def test_what_has_no_room_to_be_zoomed_into_has_its_picture_and_says_so(monkeypatch):
    one, other = meetings.small(), meetings.small(recording="other")
    monkeypatch.setattr("diarbench.report.timelinepage._MOST_MARKS", one.marks)
    page = rendered(one, other)
    assert list(data_of(page)) == ["timeline-0"]
    assert len([svg for svg in page.root.all("svg") if "still" in svg.classes]) == 2
    assert len(list(page.root.all("canvas"))) == 1
    assert f"no room for the {one.marks} marks of this recording" in page.root["timeline-1"].text
    assert "no room" not in page.root["timeline-0"].text


def test_what_is_left_out_is_said():
    left_out = tuple((None, f"talk-{place}") for place in range(50))
    text = rendered(meetings.small(), left_out=left_out, chosen="1 of 51 recordings").root.text
    assert "1 of 51 recordings. Left out: talk-0, talk-1" in text
    assert "talk-39 and 10 more." in text


def test_json_has_all_of_it_unrounded():
    third = make_timeline("t", Turns.of([(0, 1 / 3, "A")]), None, {"s": Turns.of([])}, FULL)
    (found,) = timelines_json(meetings.page_of(third))["recordings"]
    assert found["reference"] == [{"start": 0.0, "end": 1 / 3, "speaker": "A"}]
    (span,) = found["systems"][0]["errors"]
    assert (span["end"], span["kind"], span["reference"]) == (1 / 3, "missed", ("A",))
