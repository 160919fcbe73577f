from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import replace

import boards
import pytest
from pages import Page, read_page

from diarbench.costs import Memory, MemoryAt
from diarbench.leaderboard import Leaderboard, Place, Score, Speed
from diarbench.report import html, render_html
from diarbench.report.inline import raw
from diarbench.scoring import ErrorTimes

TWO_MEGABYTES = 2_000_000
FULL, DELTA, PARAMETERS = "Macro DER (%): full", "Macro DER (%): Δ", "Size: parameters"


def page_of(board: Leaderboard) -> Page:
    return read_page(render_html(board, generated="4 May 2026"))


def test_the_head_says_what_ranks_and_what_was_scored(page: Page) -> None:
    head = next(page.root.all("header")).text
    assert "Ranked by macro DER under full: no collar, overlap scored" in head
    for words in ("fair ±250 ms collar, overlap scored", "12 recordings, 24 min", "first 8 of 16", "CC BY 4.0"):
        assert words in head
    assert "invented-4c-16g-eb1f9a An Invented CPU @ 2.00GHz, 4 logical cores, 16 GiB, Invented GPU 80GB" in head
    assert "diarbench 0.1.0, 4 May 2026" in next(page.root.all("footer")).text


def test_synthetic_data_say_so_and_real_data_do_not(page: Page) -> None:
    datasets = {next(item.all("b")).text: item.text for item in page.root.all("li") if list(item.all("b"))}
    assert "SYNTHETIC" in datasets["voices"]
    assert "SYNTHETIC" not in datasets["ami-excerpts"]


def test_the_rows_hold_what_the_board_holds(page: Page, realistic: Leaderboard) -> None:
    assert list(page.rows) == [line.entry.system for line in realistic.lines]
    line = next(line for line in realistic.lines if line.entry.system == "base-int8-keep0")
    row = page.rows["base-int8-keep0"]
    macro = line.macro["full"]
    assert macro is not None
    assert row[FULL].text == f"{100 * macro:.1f}"
    assert float(row[FULL].attributes["data-sort"] or "") == macro  # sorting and reading lose nothing
    assert row[FULL].attributes["title"] == f"{100 * macro:.6g} %"
    assert row[DELTA].text.startswith("+")
    assert "worse" in row[DELTA].classes
    assert row[PARAMETERS].text == "1.89 M"
    assert row[PARAMETERS].attributes["title"] == "1,890,000"
    assert row["Size: files"].text == "2.65 MB"
    assert row["RTF: CPU, 1 thread"].text == "0.0210"
    assert row["RTF: GPU"].text == "–"
    assert row["RTF: GPU"].attributes["data-sort"] == ""
    errors = [
        row[f"Macro errors (%), full: {part}"].attributes["data-sort"]
        for part in ("missed", "false alarm", "confusion")
    ]
    assert sum(map(float, filter(None, errors))) == pytest.approx(macro)
    assert page.rows["base"][DELTA].text == "baseline"


def test_the_best_of_a_column_is_marked_once(page: Page) -> None:
    def best(head: str) -> list[str]:
        return [name for name, row in page.rows.items() if "best" in row[head].classes]

    assert best(FULL) == ["base-bf16"]
    assert best(PARAMETERS) == ["base-hidden75"]
    assert best("Size: non-zero") == ["base-zero50"]
    # Floors that compute nothing are the fastest of all, and win nothing.
    assert best("RTF: CPU, 1 thread") == ["base-int8"]
    assert best("Macro errors (%), full: false alarm") == []


def test_a_failed_system_cannot_be_overlooked(page: Page) -> None:
    head = next(page.root.all("header")).text
    assert "1 system failed on 3 recordings: base-hidden50" in head
    assert "Problems were reported of outside-program" in head
    failures = page.root["failures"].text
    for words in (
        "base-hidden50",
        "ami-excerpts",
        "3 of 8: ami-excerpts-000",
        boards.SHAPES,
        "outputs differ on 2 of 20",
    ):
        assert words in failures
    system = page.rows["base-hidden50"]["System"].text
    assert "3 failed" in system
    assert "5 of 8 recordings on ami-excerpts, 3 failed" in system
    assert page.rows["base-hidden50"][FULL].text == "–"
    assert "not run on ami-excerpts" in page.rows["outside-program"]["System"].text


def test_unranked_lines_stand_below_in_a_body_of_their_own(page: Page) -> None:
    bodies = list(page.root["board"].all("tbody"))
    assert "unranked" in bodies[-1].classes
    assert "Not ranked." in bodies[-1].text
    assert "Δ: macro DER under full less that of base, in percentage points." in page.source
    assert "missed, false alarm, confusion and macro JER are such means too." in page.source
    assert "Whole tracebacks:" in page.source
    assert "outside-program" in bodies[-1].text
    assert "outside-program" not in bodies[0].text


def test_recordings_are_listed_with_failures(page: Page) -> None:
    tables = [table for table in page.root.all("table") if "heat" in table.classes]
    rows = [row.text for table in tables for row in table.all("tr")]
    assert len(rows) == 2 + 12 + 8
    assert sum("failed" in row for row in rows) == 3
    assert any(row.endswith("failed –") for row in rows)  # the failed system, then the one that was not run


def test_provenance_and_machines_are_shown(page: Page) -> None:
    text = page.root.text
    for words in (
        "dataset.digest",
        "software.distributions.torch 2.11.0",
        "settings.torch.tf32_matmul no",
        "architecture",
    ):
        assert words in text
    assert "The same in all 26 stored runs" in text


def test_nothing_on_the_page_can_ask_for_anything(page: Page) -> None:
    for element in page.root.everything():
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            address = element.attributes.get(name)
            assert address is None or address.startswith(("#", "data:")), (element.tag, address)
        assert not [name for name in element.attributes if name.startswith("on")]
        assert "style" not in element.attributes  # the policy would refuse it
    assert page.source.count("@import") == 0


def test_the_policy_admits_exactly_the_scripts_and_the_style_of_the_page(page: Page) -> None:
    policy = next(meta.attributes["content"] for meta in page.root.all("meta") if "http-equiv" in meta.attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    admitted = set(re.findall(r"'(sha256-[^']+)'", policy))
    scripts = [script for script in page.root.all("script") if script.attributes.get("type") != "application/json"]
    inlined = [element.raw for element in (*scripts, *page.root.all("style"))]
    digests = {"sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in inlined}
    assert digests == admitted
    assert len(inlined) == 3


def test_measured_cost_is_on_the_page(measured: Leaderboard) -> None:
    page = page_of(measured)
    row = page.rows["base-zero50"]
    speedup = row["Speed-up: CPU, 1 thread, to base"]
    assert speedup.text == "1.01× [0.98, 1.04] ≈"
    assert speedup.attributes["data-sort"] == "1.01"
    assert "same" in speedup.classes
    title = "1.01, within noise, noise floor ±2.0 %, 15 rounds, session 20260504-101112"
    assert speedup.attributes["title"] == title
    assert page.rows["base"]["Speed-up: CPU, 1 thread, to base"].text == "baseline"
    assert page.rows["silence"]["Speed-up: CPU, 1 thread, to base"].text == "–"
    assert "the machine was busy: other processes" in (
        page.rows["base-bf16"]["Speed-up: GPU, to base"].attributes["title"] or ""
    )
    assert row["MACs: pipeline, per s"].attributes["title"] == "179,550,000"
    assert row["Peak memory: CPU, 1 thread, 10 min"].text == "337 MB"
    assert {"cost-macs", "speedup-0", "stages-0", "shares-1", "memory-cuda-1"} <= set(page.charts)
    text = page.root.text
    assert "≈: within the noise of its session, no speed-up. !: other work was seen" in text
    assert "base-w08: what was measured on CPU, 1 thread on box was another version of it." in text


def test_sessions_are_told_with_all_that_they_measured(measured: Leaderboard) -> None:
    page = page_of(measured)
    tables = [table for table in page.root.all("table") if "measured" in table.classes]
    heads = [head.text for head in next(tables[0].all("thead")).all("th")]
    first = next(row for row in tables[0].all("tr") if "base-int8-keep0" in row.text)
    cells = dict(zip(heads, [cell.text for cell in (*first.all("th"), *first.all("td"))], strict=True))
    assert cells == {
        "System": "base-int8-keep0", "RTF": "0.0210", "× real time": "47.6", "import": "1.50 s", "load": "250 ms",
        "first call": "840 ms", "speed-up": "1.48× [1.44, 1.52]", "encoder, 8 s × 1": "0.0210, 2.10× [2.04, 2.16]",
        "encoder, 8 s × 8": "0.0210, 2.10× [2.04, 2.16]", "time in embedding": "70 % (≤ 3.33×)",
        "time in vad": "15 % (≤ 1.18×)", "time in clustering": "10 % (≤ 1.11×)", "memory, loaded": "250 MB",
        "memory per hour": "+3.00 MB",
        "energy per hour": "4.32 kJ (rapl)", "latency": "500 ms; 10.0 ms / 20.0 ms / 30.0 ms",
    }  # fmt: skip
    summaries = [summary.text for summary in page.root.all("summary") if "Measured on" in summary.text]
    assert summaries == [
        "Measured on CPU, 1 thread on invented-4c-16g-eb1f9a: against base, 15 rounds over 0.5 min of voices, noise "
        "floor ±2.0 %; session 20260504-101112.",
        "BUSY Measured on GPU on invented-4c-16g-eb1f9a: against base, 15 rounds over 0.5 min of voices, noise floor "
        "±2.0 %, ! the machine was busy (other processes used 40 % of the CPU); session 20260504-101112.",
    ]


def test_what_could_not_be_measured_is_told_below() -> None:
    found = boards.make_measured(1.5, encoder=2.0)
    encoder = (replace(found.encoder[0], wall=None, rtf=None, speedup=None, error=boards.SCRIPT),)
    memory = Memory(
        1, (MemoryAt(60.0, None, None, "left out: it would take an hour"),), {"resident": None, "cuda": None}
    )
    measured = {boards.PLACE: replace(found, encoder=encoder, memory=memory)}
    page = page_of(boards.make_board(boards.make_entry("a", 0.2, measured=measured)))
    notes = [note.text for note in page.root.all("p") if note.text.startswith("a, ")]
    assert notes == [
        f"a, the encoder, 1 at a time: {boards.SCRIPT}",
        "a, memory at 60 min: left out: it would take an hour",
    ]
    (table,) = (table for table in page.root.all("table") if "measured" in table.classes)
    assert "failed" in table.text


def test_without_measures_there_is_no_such_section(page: Page) -> None:
    assert not [heading for heading in page.root.all("h2") if heading.text.startswith("Speed, memory")]
    assert "Speed-up" not in next(page.root.all("main")).text


def test_hostile_names_are_text_everywhere(hostile: Leaderboard) -> None:
    page = page_of(hostile)
    assert boards.SCRIPT in page.rows
    assert "</script><img src=x onerror=alert(1)>" in page.rows
    assert next(page.root.all("title")).raw == boards.SCRIPT
    assert not list(page.root.all("img"))
    kinds = [script.attributes.get("type") for script in page.root.all("script")]
    assert kinds == ["application/json", None, None]
    outside = page.source.replace(page.root["charts"].raw, "")
    assert "<script>alert" not in outside
    assert "\x1b" not in page.source
    assert "\u2028" not in page.source


def test_chart_data_mean_nothing_to_html(hostile: Leaderboard) -> None:
    page = page_of(hostile)
    stored = page.root["charts"].raw
    assert not set(stored) & set("<>&\u2028\u2029")
    names = {row["system"] for row in page.charts["cost-parameters"]["data"]["values"]}
    assert boards.SCRIPT in names


def test_a_lone_surrogate_in_a_title_does_not_stop_the_page() -> None:
    board = boards.make_board(boards.make_entry("a", 0.1, title="bad \udcff byte"), title="\udc80")
    render_html(board, generated="now").encode()


def empty() -> Leaderboard:
    return boards.make_board(columns=())


def no_systems() -> Leaderboard:
    return boards.make_board()


def one() -> Leaderboard:
    return boards.make_board(boards.make_entry("only", 0.2))


def all_failed() -> Leaderboard:
    entries = [boards.make_entry(name, 0.2, rtf=None) for name in "ab"]
    return boards.make_board(*(boards.fail(entry, "voices", 12, "it fell over") for entry in entries))


def missing_dataset() -> Leaderboard:
    entry = boards.make_entry("a", 0.2)
    return boards.make_board(replace(entry, scores={"voices": entry.scores["voices"]}), boards.make_entry("b", 0.3))


def never_run() -> Leaderboard:
    entry = boards.make_entry("a", 0.2, rtf=None, provenance=())
    unseen = {name: Score({}, {}, tuple(score.recordings)) for name, score in entry.scores.items()}
    return boards.make_board(replace(entry, scores=unseen))


def only_floors() -> Leaderboard:
    return boards.make_board(*(boards.make_entry(name, 0.5, parameters=None, rtf=1e-6) for name in "ab"))


def no_speech() -> Leaderboard:
    column = boards.make_column("quiet", recordings=1)
    times = {rule.name: ErrorTimes(0.0, 0.0, 1.0, 0.0) for rule in boards.RULES}
    entry = boards.make_entry("a", 0.2, columns=(column,))
    return boards.make_board(replace(entry, scores={"quiet": Score({"quiet-000": times}, {}, ())}), columns=(column,))


def no_time() -> Leaderboard:
    nothing = {boards.PLACE: Speed(0.0, 0.0)}
    return boards.make_board(boards.make_entry("a", 0.2, speeds=nothing), boards.make_entry("b", 0.2, rtf=0.0))


@pytest.mark.parametrize(
    "board", [empty, no_systems, one, all_failed, missing_dataset, never_run, only_floors, no_speech, no_time]
)
def test_degenerate_boards_render(board: object) -> None:
    assert callable(board)
    made: Leaderboard = board()
    page = page_of(made)
    assert made.title in page.root.text
    for line in made.lines:
        assert line.entry.system in page.rows
    assert len(page.source.encode()) < TWO_MEGABYTES


def test_empty_boards_say_so() -> None:
    assert "No system is on this leaderboard." in page_of(empty()).root.text
    assert "None: there is nothing to rank by." in page_of(empty()).root.text
    assert "No system has a rank yet." in page_of(all_failed()).root.text
    assert "2 systems failed on 24 recordings" in page_of(all_failed()).root.text


def test_machines_never_share_a_column() -> None:
    places = (Place("box", "cpu", 1), Place("box", "cpu", 2), Place("rack", "cpu", 1))
    first = boards.make_entry("a", 0.2, places=places[:2])
    page = page_of(boards.make_board(first, boards.make_entry("b", 0.3, places=places[2:], rtf=0.5)))
    assert page.rows["a"]["RTF, box: CPU, 1 thread"].text == "0.0300"
    assert page.rows["a"]["RTF, rack: CPU, 1 thread"].text == "–"
    assert page.rows["b"]["RTF, rack: CPU, 1 thread"].text == "0.500"
    assert page.rows["b"]["RTF, box: CPU, 2 threads"].text == "–"
    assert {"cost-rtf-0", "cost-rtf-1", "cost-rtf-2"} <= set(page.charts)


def test_places_that_read_alike_are_told_apart() -> None:
    places = (Place("box", "cuda", 1), Place("box", "cuda", 8))
    page = page_of(boards.make_board(boards.make_entry("a", 0.2, places=places)))
    assert {"RTF: GPU, 1 thread", "RTF: GPU, 8 threads"} <= set(page.rows["a"])


def test_forty_systems_on_three_hundred_recordings_stay_under_two_megabytes() -> None:
    board = boards.many(40, 300)
    start = time.perf_counter()
    page = page_of(board)
    assert time.perf_counter() - start < 30
    assert len(page.source.encode()) < TWO_MEGABYTES
    heat = [table for table in page.root.all("table") if "heat" in table.classes]
    assert sum(len(list(table.all("td"))) for table in heat) == 40 * 300


def test_the_worst_of_everything_stays_under_two_megabytes() -> None:
    found = {place: boards.make_measured(1.5, encoder=2.0, cuda=True) for place in boards.many(1).places}
    board = boards.many(40, 400)
    noise = {f"key{number}": {"deep": "x" * 100} for number in range(80)}
    lines = []
    for line in board.lines:
        runs = tuple({**noise, "id": line.entry.system, "own": f"{line.entry.system} {run}" * 9} for run in range(6))
        score = line.entry.scores["first"]
        failures = {name: f"error on {name}: " + "y" * 900 for name in score.recordings}
        scores = {**line.entry.scores, "first": Score({}, failures, ())}
        stages = {place: {f"stage-{number}": 1.0 for number in range(8)} for place in board.places}
        costs = {"measured": found, "stages": stages, "pipeline_macs": 1e9, "complexity": boards.make_sizes(10**7)}
        lines.append(replace(line, entry=replace(line.entry, provenance=runs, scores=scores, **costs)))
    page = page_of(replace(board, lines=tuple(lines)))
    assert len(page.source.encode()) < TWO_MEGABYTES
    assert "more; the JSON output holds them all" in page.root.text


def test_what_is_left_out_for_size_is_said(realistic: Leaderboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_MOST_RECORDING_CELLS", 100)
    assert "156 numbers are too many for this page" in page_of(realistic).root.text
    monkeypatch.setattr("diarbench.report.provenance._BUDGET", 10)
    assert "Left out to keep the page small" in page_of(realistic).root.text


def test_an_inlined_file_that_would_end_its_element_is_refused() -> None:
    with pytest.raises(ValueError, match="</script"):
        raw("var text = '</SCRIPT>';", "</script")
