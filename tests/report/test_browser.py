"""The page in a real browser: it draws, sorts and filters, asks for nothing, and obeys no name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boards
import pytest
from visits import Visit

from diarbench.leaderboard import Leaderboard
from diarbench.report import render_html

pytestmark = pytest.mark.browser

DRAWN = """() => [...document.querySelectorAll(".chart")]
    .every((chart) => chart.closest("details:not([open])") || chart.querySelector("svg .mark-text, svg .mark-rule"))"""


class BoardVisit(Visit):
    """An open leaderboard, all charts of which are drawn."""

    def __init__(self, page: Any, address: str) -> None:
        super().__init__(page, address)
        self.wait(DRAWN)

    def column(self, index: int, body: int = 0) -> list[str]:
        """What the visible ranked rows show in one column."""
        found = self.page.evaluate(
            """([index, body]) => [...document.getElementById("board").tBodies[body].rows]
                .filter((row) => row.dataset.method !== undefined && !row.hidden)
                .map((row) => (row.cells[index].querySelector(".name") || row.cells[index]).textContent)""",
            [index, body],
        )
        return [str(value) for value in found]

    def heading(self, name: str) -> Any:
        return self.page.locator("#board thead button").get_by_text(name, exact=True)


Opener = Callable[..., BoardVisit]


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    contexts = []

    def open_page(board: Leaderboard, **options: Any) -> BoardVisit:
        path = tmp_path / "board.html"
        if not path.exists():
            path.write_text(render_html(board, generated="now"), encoding="utf-8")
        context = browser.new_context(**options)
        contexts.append(context)
        return BoardVisit(context.new_page(), path.as_uri())

    yield open_page
    for context in contexts:
        context.close()


def test_every_chart_is_drawn_and_its_points_are_named(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic)
    assert seen.page.locator(".chart svg").count() == 7
    assert seen.page.locator(".chart.broken").count() == 0
    assert seen.page.locator("#cost-parameters svg .points_marks path").count() == 9
    labels = seen.page.evaluate(
        """() => [...document.querySelectorAll("#cost-rtf-0 svg .names_marks text")]
            .filter((label) => label.getAttribute("opacity") !== "0")
            .map((label) => label.textContent)"""
    )
    assert {"base", "base-w08", "base-hidden75", "base-int8"} <= set(labels)
    assert seen.quiet(), (seen.said, seen.asked)


def test_hovering_a_point_tells_its_numbers(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic)
    seen.page.locator("#cost-rtf-0 svg .points_marks path").first.hover(force=True)
    seen.page.wait_for_selector("#vg-tooltip-element.visible")
    told = seen.page.locator("#vg-tooltip-element").inner_text()
    assert "base-bf16" in told
    assert "18.21" in told
    assert seen.quiet(), seen.said


def test_a_heading_sorts_by_numbers_and_keeps_missing_values_last(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic)
    names = seen.column(1)
    assert seen.column(0) == [str(line.rank) for line in realistic.lines if line.rank is not None]
    seen.heading("forgiving").click()
    values = [float(value) for value in seen.column(4)]
    assert values == sorted(values)
    assert "100.0" in seen.column(4)[-1]  # as text it would stand first
    seen.heading("forgiving").click()
    values = [float(value) for value in seen.column(4)]
    assert values == sorted(values, reverse=True)
    seen.heading("files").click()
    assert seen.column(16)[0] == "2.08 MB"
    assert seen.column(16)[-2:] == ["–", "–"]
    seen.heading("files").click()
    assert seen.column(16)[0] == "7.56 MB"
    assert seen.column(16)[-2:] == ["–", "–"]
    seen.heading("System").click()
    assert seen.column(1) == sorted(names)
    assert seen.column(1, body=1) == ["base-hidden50", "outside-program"]
    heading = seen.heading("fair")
    heading.focus()
    for state in ("ascending", "descending"):
        seen.page.keyboard.press("Enter")
        states = seen.page.locator("#board th[aria-sort]").evaluate_all("all => all.map((one) => one.ariaSort)")
        assert [other for other in states if other != "none"] == [state]
        assert heading.locator("xpath=..").get_attribute("aria-sort") == state
    assert seen.quiet(), seen.said


def test_filtering_by_words_and_by_compression(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic)
    seen.page.fill("#filter", "INT8 fp32")
    assert seen.column(1) == ["base-int8-keep0"]  # by its title
    assert seen.page.locator("#shown").inner_text() == "1 of 13 systems"
    seen.page.fill("#filter", "")
    seen.page.select_option("#method", "quantized")
    assert seen.column(1) == ["base-int8-keep0", "base-int8"]
    seen.page.select_option("#method", "hidden")
    assert seen.column(1) + seen.column(1, body=1) == ["base-hidden75", "base-hidden50"]
    seen.page.select_option("#method", "*")
    assert seen.page.locator("#shown").inner_text() == "13 systems"
    assert seen.quiet(), seen.said


HEADS = """() => [...document.querySelectorAll("#board thead tr:last-child > :not([hidden])")]
    .map((head) => head.textContent.trim())"""
BOX = "document.querySelector('.board').parentElement"


def test_columns_give_way_where_the_window_is_narrow_and_come_back(visit: Opener, measured: Leaderboard) -> None:
    seen = visit(measured, viewport={"width": 1280, "height": 800})
    heads = seen.page.evaluate(HEADS)
    assert {"full", "parameters", "pipeline, per s", "GPU, to base"} <= set(heads)
    assert not {"confusion", "held", "encoder, 1 s"} & set(heads)
    assert seen.page.evaluate(f"{BOX}.scrollWidth <= {BOX}.clientWidth")
    groups = seen.page.locator("#board thead tr:first-child th:visible")
    assert sum(map(int, groups.evaluate_all("all => all.map((one) => one.colSpan)"))) == len(heads) - 2
    seen.page.get_by_label("errors").check()
    assert "confusion" in seen.page.evaluate(HEADS)
    assert "macro" not in seen.page.evaluate(HEADS)
    seen.page.get_by_label("JER", exact=True).check()
    assert "macro" in seen.page.evaluate(HEADS)
    seen.page.get_by_label("JER", exact=True).uncheck()
    assert seen.page.locator("#board tbody td:visible").filter(has_text="1.63×").count() == 1
    seen.page.get_by_label("other rules").uncheck()
    seen.page.set_viewport_size({"width": 1500, "height": 800})  # the reader's choice stays
    assert {"full", "confusion"} <= set(seen.page.evaluate(HEADS))
    assert "fair" not in seen.page.evaluate(HEADS)
    assert seen.quiet(), seen.said


def test_columns_come_and_go_with_the_window(visit: Opener, measured: Leaderboard) -> None:
    seen = visit(measured, viewport={"width": 1280, "height": 800})
    few = seen.page.evaluate(HEADS)
    seen.page.set_viewport_size({"width": 400, "height": 800})
    seen.wait(f"({HEADS})().length < {len(few)}")
    assert seen.page.evaluate(HEADS)[:4] == ["#", "System", "full", "Δ"]
    seen.page.set_viewport_size({"width": 1280, "height": 800})
    seen.wait(f"({HEADS})().length === {len(few)}")
    assert seen.page.evaluate(HEADS) == few


def test_charts_of_measured_cost_are_drawn(visit: Opener, measured: Leaderboard) -> None:
    seen = visit(measured)
    assert seen.page.locator(".chart.broken").count() == 0
    assert seen.page.locator("#speedup-0 svg .mark-symbol path").count() >= 10
    seen.page.locator("#stages-0 svg .mark-rect path").first.hover(force=True)
    seen.page.wait_for_selector("#vg-tooltip-element.visible")
    assert "pipeline, if it cost nothing" in seen.page.locator("#vg-tooltip-element").inner_text()
    assert seen.quiet(), seen.said


def test_charts_in_closed_sections_are_drawn_when_they_open(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic)
    assert seen.page.locator("#spread-0 svg").count() == 0
    seen.page.locator("summary", has_text="voices: DER of each recording").click()
    seen.wait(DRAWN)
    assert seen.page.locator("#spread-0 svg .mark-rect path").count() == 2 * 13  # boxes and medians
    assert seen.page.locator("#spread-0").bounding_box()["width"] > 300
    assert seen.quiet(), seen.said


def test_hostile_names_are_shown_and_run_nothing(visit: Opener, hostile: Leaderboard) -> None:
    seen = visit(hostile)
    assert seen.page.title() == boards.SCRIPT
    assert seen.page.locator("h1").inner_text() == boards.SCRIPT
    assert boards.SCRIPT in seen.column(1)
    assert "</script><img src=x onerror=alert(1)>" in seen.column(1, body=1)
    assert seen.page.locator("img").count() == 0
    assert boards.SCRIPT in seen.page.locator("#cost-parameters svg").text_content()
    for summary in seen.page.locator("summary").all():
        summary.click()
    seen.wait(DRAWN)
    seen.page.locator("#cost-parameters svg .points_marks path").first.hover(force=True)
    seen.page.wait_for_selector("#vg-tooltip-element.visible")
    assert boards.SCRIPT in seen.page.locator("#vg-tooltip-element").inner_text()
    assert seen.quiet(), (seen.said, seen.dialogs, seen.asked)


def test_the_policy_lets_no_other_script_run(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic)
    seen.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.intruder = true";
            document.head.append(script);
        }"""
    )
    assert seen.page.evaluate("window.intruder") is None
    assert any("Content Security Policy" in message for message in seen.said)


@pytest.mark.parametrize(
    ("name", "width"), [("realistic", 400), ("hostile", 400), ("realistic", 1280), ("measured", 400)]
)
def test_the_page_is_never_wider_than_its_window(
    visit: Opener, width: int, name: str, realistic: Leaderboard, hostile: Leaderboard, measured: Leaderboard
) -> None:
    board = {"realistic": realistic, "hostile": hostile, "measured": measured}[name]
    seen = visit(board, viewport={"width": width, "height": 800})
    for summary in seen.page.locator("summary").all():
        summary.click()
    seen.wait(DRAWN)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate(f"{BOX}.scrollWidth <= {BOX}.clientWidth") == (width == 1280)
    assert seen.quiet(), seen.said


def test_charts_follow_a_window_that_changes(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic, viewport={"width": 1280, "height": 800})
    seen.page.set_viewport_size({"width": 500, "height": 800})
    seen.wait("document.querySelector('#cost-parameters svg').clientWidth <= 500")
    assert seen.quiet(), seen.said


def test_dark_is_dark(visit: Opener, realistic: Leaderboard) -> None:
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    text = "getComputedStyle(document.querySelector('#errors-0 svg .role-axis-label text'))"
    label = text + ".fill.match(/\\d+/g).slice(0, 3).map(Number)"
    light, dark = visit(realistic, color_scheme="light"), visit(realistic, color_scheme="dark")
    assert min(light.page.evaluate(brightness)) > 200
    assert max(dark.page.evaluate(brightness)) < 60
    assert max(light.page.evaluate(label)) < 60  # charts follow, without being drawn again
    assert min(dark.page.evaluate(label)) > 200
    dark.page.emulate_media(media="print")
    assert max(dark.page.evaluate(label)) < 60  # on paper all is light


def test_a_saved_chart_stands_alone(visit: Opener, realistic: Leaderboard) -> None:
    seen = visit(realistic)
    with seen.page.expect_download() as download:
        seen.page.locator("button.save").first.click()
    saved = Path(download.value.path()).read_text(encoding="utf-8")
    assert download.value.suggested_filename == "cost-parameters.svg"
    assert saved.startswith("<svg")
    assert "base-hidden75" in saved
    assert "var(--" not in saved


@pytest.mark.parametrize(
    "board",
    [
        boards.make_board(columns=()),
        boards.make_board(boards.make_entry("only", 0.2)),
        boards.make_board(boards.fail(boards.make_entry("a", 0.2, rtf=None), "voices", 12, "fell over")),
        boards.many(40, 60),
    ],
    ids=["empty", "one", "all-failed", "many"],
)
def test_other_boards_are_quiet_too(visit: Opener, board: Leaderboard) -> None:
    seen = visit(board)
    assert seen.quiet(), (seen.said, seen.asked)
