"""Timelines in a real browser: zoom, move, hover, go from error to error; without a script, and in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import meetings
import pytest
from visits import Visit

from diarbench.report import Timeline, make_timeline, render_timeline_html
from diarbench.scoring import FORGIVING, FULL
from diarbench.types import Turns

pytestmark = pytest.mark.browser

FIGURE = "document.querySelector('figure.timeline')"
# The rows of `small`, by their middles in pixels: reference, first and second below each other.
BEN, X, Y, MISSED, FALSE_ALARM, CONFUSION = 58, 140, 156, 186, 198, 210


class TimelineVisit(Visit):
    """An open page of timelines."""

    def view(self) -> tuple[float, float]:
        """What the first timeline shows, once it has drawn it (s)."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found = self.page.evaluate(f"[{FIGURE}.dataset.from, {FIGURE}.dataset.to].map(Number)")
        return found[0] / 1000, found[1] / 1000

    def told(self) -> str:
        return str(self.page.locator(".told").first.inner_text())

    def do(self, name: str) -> None:
        self.page.locator(f"figure [data-do={name}]").first.click()

    def point(self, seconds: float, y: int) -> None:
        """Move the mouse to a time in the whole of `small`, in a row."""
        box = self.page.locator("canvas").first.bounding_box()
        self.page.mouse.move(box["x"] + seconds / 25 * box["width"], box["y"] + y)

    def colour(self, seconds: float, y: int) -> tuple[int, ...]:
        self.view()
        return tuple(
            self.page.evaluate(
                """([part, y]) => {
                    const canvas = document.querySelector("canvas");
                    const ratio = canvas.height / canvas.clientHeight;
                    const place = [Math.round(part * canvas.width), Math.round(y * ratio)];
                    return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
                }""",
                [seconds / 25, y],
            )
        )


Opener = Callable[..., TimelineVisit]


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    contexts = []

    def open_page(*shown: Timeline, **options: Any) -> TimelineVisit:
        path = tmp_path / "timeline.html"
        found = meetings.page_of(*(shown or (meetings.small(),)))
        path.write_text(render_timeline_html(found, generated="now"), encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        return TimelineVisit(context.new_page(), path.as_uri())

    yield open_page
    for context in contexts:
        context.close()


def test_buttons_zoom_and_the_whole_comes_back(visit: Opener) -> None:
    seen = visit()
    assert seen.view() == (0, 25)
    seen.do("in")
    assert seen.view() == (6.25, 18.75)
    seen.do("out")
    assert seen.view() == (0, 25)
    for _ in range(12):
        seen.do("in")
    low, high = seen.view()
    assert high - low == pytest.approx(0.5)
    seen.do("whole")
    assert seen.view() == (0, 25)
    assert seen.page.locator("output").inner_text() == "whole recording, 0:00 to 0:25"
    assert seen.quiet(), (seen.said, seen.asked)


def test_keys_move_and_zoom(visit: Opener) -> None:
    seen = visit()
    seen.page.locator("canvas").focus()
    views = []
    for key in ("+", "ArrowRight", "ArrowLeft", "End", "Home", "0"):
        seen.page.keyboard.press(key)
        views.append(seen.view())
    assert views == [(6.25, 18.75), (8.75, 21.25), (6.25, 18.75), (12.5, 25), (0, 12.5), (0, 25)]
    assert seen.quiet(), seen.said


def test_dragging_moves_and_the_wheel_zooms_at_the_pointer(visit: Opener) -> None:
    seen = visit()
    seen.do("in")
    seen.point(12.5, X)
    seen.page.mouse.down()
    seen.point(15, X)
    seen.point(17.5, X)  # a fifth of the width
    seen.page.mouse.up()
    assert seen.view() == pytest.approx((3.75, 16.25), abs=0.02)
    seen.do("whole")
    seen.page.evaluate("document.activeElement.blur()")
    seen.point(5, X)
    seen.page.mouse.wheel(0, -200)  # without a click before, that is for the page
    assert seen.view() == (0, 25)
    seen.page.locator("canvas").focus()
    seen.point(5, X)
    seen.page.mouse.wheel(0, -200)
    low, high = seen.view()
    assert high - low == pytest.approx(25 * 0.5488, abs=0.1)
    assert (5 - low) / (high - low) == pytest.approx(0.2, abs=0.01)
    seen.page.mouse.wheel(120, 0)
    assert seen.view()[0] > low
    assert seen.quiet(), seen.said


def test_next_goes_from_error_to_error(visit: Opener) -> None:
    seen = visit()
    told = []
    for _ in range(4):
        seen.do("next")
        told.append(seen.told())
    assert told[0] == "Error 1 of 10: missed by second: Ben, 0:00.00, 0.00–1.00 s, 1.00 s long."
    assert told[1] == "Error 2 of 10: missed by first: Anna, 0:05.00, 5.00–6.00 s, 1.00 s long."
    assert [text.split(":")[0] for text in told[2:]] == ["Error 3 of 10", "Error 4 of 10"]
    seen.do("previous")
    assert seen.told() == told[2]
    seen.page.locator("canvas").focus()
    seen.page.keyboard.press("n")
    assert seen.told() == told[3]
    for _ in range(7):
        seen.page.keyboard.press("n")
    assert seen.told() == "No further error of this kind."
    seen.page.keyboard.press("Escape")
    assert seen.told() == ""
    assert seen.quiet(), seen.said


def test_errors_can_be_narrowed_to_a_kind_and_a_system(visit: Opener) -> None:
    seen = visit()
    seen.page.select_option("[data-pick=kind]", label="confusion")
    seen.page.select_option("[data-pick=system]", label="first")
    seen.do("next")
    assert seen.told().startswith("Error 1 of 2: confusion by first: Anna taken for x, 0:06.00")
    seen.do("next")
    assert seen.told().startswith("Error 2 of 2: confusion by first: Ben taken for y, 0:12.00")
    seen.page.select_option("[data-pick=kind]", label="false alarm")
    seen.page.select_option("[data-pick=system]", label="second")
    seen.do("previous")
    assert seen.told() == "No such error."
    assert seen.quiet(), seen.said


def test_next_comes_close_where_an_error_is_too_small_to_be_seen(visit: Opener) -> None:
    seen = visit(meetings.long_meeting(systems=1, hours=2))
    assert seen.view()[1] > 7200
    seen.do("next")
    low, high = seen.view()
    assert high - low == pytest.approx(20, abs=0.01)
    for _ in range(30):
        seen.do("next")
    start = float(seen.told().split(", ")[-2].split("–")[0])
    low, high = seen.view()
    assert low < start < high
    assert seen.quiet(), seen.said


def test_hovering_tells_who_when_and_what_is_wrong(visit: Opener) -> None:
    seen = visit()
    tip = seen.page.locator("#tip")
    seen.point(13, BEN)
    assert tip.inner_text().split("\n") == [
        "Ben",
        "0:12.00, 12.00–15.00 s, 3.00 s long",
        "confusion by first: Ben taken for y",
    ]
    seen.point(3, X)
    assert tip.inner_text().startswith("x, mapped to Ben\n0:00.00, 0.00–6.50 s, 6.50 s long")
    seen.point(14.5, Y)
    assert tip.inner_text().split("\n")[2:] == ["confusion by first: Ben taken for y"]  # none of second's
    seen.point(17, MISSED)
    assert tip.inner_text().startswith("missed by first: Cleo\n0:16.00, 16.00–19.00 s")
    seen.point(22.5, FALSE_ALARM)
    assert tip.inner_text().startswith("false alarm by first: z\n")
    seen.point(10.5, CONFUSION)
    assert tip.is_hidden()
    seen.point(13, CONFUSION)
    seen.page.mouse.down()
    seen.page.mouse.up()
    assert seen.told() == "confusion by first: Ben taken for y – 0:12.00, 12.00–15.00 s, 3.00 s long"
    seen.page.mouse.move(5, 5)
    assert tip.is_hidden()
    assert seen.quiet(), seen.said


def test_hovering_tells_what_is_not_scored(visit: Opener) -> None:
    seen = visit(meetings.small(FORGIVING))
    seen.point(5.4, MISSED)
    assert seen.page.locator("#tip").inner_text() == "not scored: overlap, which is skipped"
    seen.point(9.1, BEN)
    assert seen.page.locator("#tip").inner_text() == "not scored: in a collar"


def test_the_longest_errors_lead_to_their_place(visit: Opener) -> None:
    seen = visit(meetings.long_meeting(systems=2, hours=0.5))
    seen.page.locator("summary").nth(1).click()
    button = seen.page.locator(".longest").nth(1).locator("button").first
    seconds = button.locator("xpath=../..").locator("td").nth(1).inner_text()
    button.click()
    assert "by system-1" in seen.told()
    assert f"{seconds} s" in seen.told()
    start, end = map(float, seconds.split("–"))
    low, high = seen.view()
    assert low < start < end < high
    assert seen.page.locator(".longest button").count() == 20
    assert seen.quiet(), seen.said


def test_errors_and_speakers_have_their_colours_in_light_and_dark(visit: Opener) -> None:
    for scheme in ("light", "dark"):
        seen = visit(color_scheme=scheme)
        colours = [seen.colour(17, MISSED), seen.colour(22.5, FALSE_ALARM), seen.colour(13, CONFUSION)]
        assert len(set(colours)) == 3
        assert all(alpha == 255 for *_, alpha in colours)
        assert seen.colour(3, BEN) == seen.colour(3, X)  # whom x is mapped to
        assert seen.colour(10.5, X)[3] == 0  # nobody: the paper shows
        brightness = sum(colours[0][:3])
        seen.page.emulate_media(color_scheme={"light": "dark", "dark": "light"}[scheme])
        assert (sum(seen.colour(17, MISSED)[:3]) > brightness) == (scheme == "light")


def test_without_a_script_the_picture_stands(visit: Opener, browser: Any, tmp_path: Path) -> None:
    seen = visit()
    assert seen.page.locator("svg.still").is_hidden()
    seen.page.emulate_media(media="print")
    assert seen.page.locator("svg.still").is_visible()
    assert seen.page.locator("canvas").is_hidden()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "timeline.html").as_uri())
    assert page.locator("svg.still").is_visible()
    assert page.locator("canvas").is_hidden()
    assert page.locator(".controls").is_hidden()
    assert page.locator("#how").is_hidden()
    context.close()


@pytest.mark.parametrize("width", [380, 1280])
def test_the_page_is_as_wide_as_its_window_and_follows_it(visit: Opener, width: int) -> None:
    name = "a-rather-long-name-of-a-recording-or-of-a-speaker" * 2
    long = make_timeline(name, Turns.of([(0, 9, name)]), None, {name: Turns.of([(1, 9, name)])}, FULL)
    seen = visit(long, meetings.small(), viewport={"width": width, "height": 800})
    for summary in seen.page.locator("summary").all():
        summary.click()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.set_viewport_size({"width": 900, "height": 800})
    seen.view()
    canvas = seen.page.evaluate("[...document.querySelectorAll('canvas')].map((one) => one.width - one.clientWidth)")
    assert canvas == [0, 0]
    # Labels stand beside their rows, and so the last one where the last row ends.
    pairs = seen.page.evaluate(
        """() => [...document.querySelectorAll("figure")].map((figure) => {
            const last = figure.querySelector(".labels > :last-child").getBoundingClientRect();
            const canvas = figure.querySelector("canvas").getBoundingClientRect();
            return [last.bottom - canvas.top + 6, canvas.height];
        })"""
    )
    assert all(labels == height for labels, height in pairs)
    assert len(pairs) == 2
    assert seen.quiet(), seen.said


def test_hostile_names_are_shown_and_run_nothing(visit: Opener) -> None:
    name = "</script><img src=x onerror=alert(1)>"
    turns = Turns.of([(0, 25, name)])
    seen = visit(make_timeline(name, turns, None, {name: turns, "deaf": Turns.of([])}, FULL, dataset=name))
    seen.point(5, BEN)
    assert name in seen.page.locator("#tip").inner_text()
    seen.do("next")
    assert seen.told().startswith(f"Error 1 of 1: missed by deaf: {name}")
    assert seen.page.locator("img").count() == 0
    assert seen.quiet(), (seen.said, seen.dialogs, seen.asked)


def test_several_recordings_stand_apart(visit: Opener) -> None:
    seen = visit(meetings.small(), meetings.small(recording="other"))
    seen.page.locator("#timeline-1 [data-do=in]").click()
    assert seen.view() == (0, 25)
    assert seen.page.locator("#timeline-1 output").inner_text() == "0:06 to 0:19"
    seen.page.get_by_role("link", name="other").click()
    assert seen.page.evaluate("location.hash") == "#timeline-1"
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.closest('section').id") == "timeline-1"
    assert not seen.said
