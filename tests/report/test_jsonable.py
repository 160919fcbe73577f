from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import boards
import pytest

from diarbench.errors import StoreError
from diarbench.leaderboard import Leaderboard, Score
from diarbench.published import Published, read_published
from diarbench.report import leaderboard_json
from diarbench.types import Complexity

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"


def documented() -> tuple[set[str], set[str]]:
    """Paths of values, and of these the free-form ones, as the tables of the document list them."""
    board, _ = DOCUMENT.read_text(encoding="utf-8").split("\n# Corpora as JSON\n")
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", board, flags=re.MULTILINE)
    return {key for key, _ in rows}, {key for key, note in rows if "free-form" in note}


def paths(value: Any, known: set[str], free: set[str], at: str = "") -> set[str]:
    """The paths of all values, names in an object as `*` where the document has `*`."""
    if at in free:
        return {at}
    if isinstance(value, dict):
        names = any(key.startswith(f"{at}.*") for key in known)
        found: set[str] = set()
        for key, item in value.items():
            found |= paths(item, known, free, f"{at}.*" if names else f"{at}.{key}".lstrip("."))
        return found
    if isinstance(value, list):
        return set().union(*(paths(item, known, free, f"{at}[]") for item in value))
    return {at}


def reported_table(folder: Path) -> Published:
    """A figure that is doubtful, and that the board's system `a` stands against."""
    path = folder / "reported.toml"
    path.write_text(
        'title = "T"\ncolumns = [\n  { key = "system", head = "System" },\n'
        '  { key = "size", head = "Size", figure = "parameters", of = "all", doubt = "rounded" },\n]\n'
        'rows = [{ cells = ["A", "1K"], system = "a" }]\n'
        '[source]\ntitle = "T"\nauthors = "A"\nyear = 2025\nurl = "https://example.org"\nwhere = "Table 1"\n'
    )
    return read_published(path)


def test_the_keys_are_those_of_the_document(realistic: Leaderboard, measured: Leaderboard, tmp_path: Path) -> None:
    known, free = documented()
    assert len(known) > 100
    for board in (realistic, measured):
        assert paths(leaderboard_json(board), known, free) <= known
    everything = boards.make_measured(1.5, encoder=2.0, cuda=True)
    # What may be null is so once: its row in the document is there for that.
    nothing = replace(
        everything, speedup=None, memory=None, energy=None, latency=None,
        encoder=(replace(everything.encoder[0], speedup=None, error="out of memory"),),
    )  # fmt: skip
    entry = boards.make_entry(
        "a", 0.2, problems=("a problem",), notes=("a note",), timings_left_out=("no speed",),
        complexity=boards.make_sizes(1000),
        stages={boards.PLACE: {"embedding": 1.0}}, trained_parts=("ami/train",), may_have_seen=("ami/test",),
        measured={boards.PLACE: everything, boards.PLACE._replace(device="cuda"): nothing},
    )  # fmt: skip
    halved = Score(entry.scores["voices"].recordings, {"x": "fell over"}, ("y",))
    full = boards.make_board(replace(entry, scores={"voices": halved}), boards.make_entry("b", 0.2, complexity=None))
    assert paths(leaderboard_json(full, [reported_table(tmp_path)]), known, free) == known


def test_the_format_is_the_documented_one(realistic: Leaderboard) -> None:
    number = re.search(r"`format` \| the number of this format: (\d+)", DOCUMENT.read_text(encoding="utf-8"))
    assert number is not None
    assert leaderboard_json(realistic)["format"] == int(number[1])


def test_the_numbers_are_fractions_and_seconds(realistic: Leaderboard) -> None:
    board = json.loads(json.dumps(leaderboard_json(realistic), allow_nan=False))
    systems = {system["system"]: system for system in board["systems"]}
    base = systems["base"]
    overall = base["scores"]["voices"]["rules"]["full"]["overall"]
    recordings = base["scores"]["voices"]["rules"]["full"]["recordings"]
    errors = overall["missed"] + overall["false_alarm"] + overall["confusion"]
    assert overall["der"] == pytest.approx(errors / overall["scored"])
    for key in ("missed", "false_alarm", "confusion", "scored"):
        assert overall[key] == pytest.approx(sum(times[key] for times in recordings.values()))
    speakers = sum(times["reference_speakers"] for times in recordings.values())
    errors = sum(times["jer"] * times["reference_speakers"] for times in recordings.values())
    assert (overall["reference_speakers"], overall["jer"]) == (speakers, pytest.approx(errors / speakers))
    jers = [base["scores"][dataset["name"]]["rules"]["full"]["overall"]["jer"] for dataset in board["datasets"]]
    assert base["macro_jer"]["full"] == pytest.approx(sum(jers) / 2)
    ders = [base["scores"][dataset["name"]]["rules"]["full"]["overall"]["der"] for dataset in board["datasets"]]
    assert base["macro_der"]["full"] == pytest.approx(sum(ders) / 2)
    variant = systems["base-w08"]
    assert variant["delta"]["fair"] == pytest.approx(variant["macro_der"]["fair"] - base["macro_der"]["fair"])
    assert base["speeds"][0] == {
        "machine": "invented-4c-16g-eb1f9a", "device": "cpu", "threads": 1,
        "wall": pytest.approx(74.4), "audio": 2400.0, "rtf": pytest.approx(0.031),
    }  # fmt: skip


def test_measured_cost_is_what_the_board_has(measured: Leaderboard) -> None:
    board = json.loads(json.dumps(leaderboard_json(measured), allow_nan=False))
    systems = {system["system"]: system for system in board["systems"]}
    small = systems["base-hidden75"]
    assert small["macs"] == {"encoder_1s": 64_900_000, "window_per_s": 67_850_000.0, "pipeline_per_s": 112_100_000.0}
    assert small["complexity"]["held"] == {"float32": {"weights": 1_180_000, "bytes": 4_720_000}}
    assert small["complexity"]["stages"]["embedding"]["parts"]["cnn"]["parameters"] == 354_000
    (stages,) = small["stages"]
    assert sum(stages.pop("seconds").values()) == pytest.approx(small["speeds"][0]["wall"])
    assert stages == {"machine": boards.PLACE.machine, "device": "cpu", "threads": 1}
    cpu, gpu = small["measured"]
    assert (cpu["device"], gpu["device"], gpu["noise"]["busy"]) == ("cpu", "cuda", True)
    assert cpu["speedup"] == {
        "median": 1.41, "low": pytest.approx(1.3677), "high": pytest.approx(1.4523), "verdict": "faster"
    }  # fmt: skip
    assert cpu["import"] == 1.5
    assert cpu["memory"]["lengths"][1]["minutes"] == 10.0
    assert systems["base"]["measured"][0]["speedup"] is None
    assert systems["silence"]["measured"] == []
    assert systems["silence"]["macs"] == {"encoder_1s": None, "window_per_s": None, "pipeline_per_s": None}


def test_incomplete_results_have_no_der_but_keep_their_times(realistic: Leaderboard) -> None:
    systems = {system["system"]: system for system in leaderboard_json(realistic)["systems"]}
    broken = systems["base-hidden50"]
    score = broken["scores"]["ami-excerpts"]
    assert (broken["rank"], broken["macro_der"]["full"]) == (None, None)
    assert broken["unranked"] == "5 of 8 recordings on ami-excerpts, 3 failed"
    assert score["complete"] is False
    assert score["rules"]["full"]["overall"]["der"] is None
    assert score["rules"]["full"]["overall"]["scored"] > 0
    assert (score["rules"]["full"]["overall"]["jer"], broken["macro_jer"]["full"]) == (None, None)
    assert score["rules"]["full"]["overall"]["reference_speakers"] == 10
    assert score["failures"] == dict.fromkeys([f"ami-excerpts-00{number}" for number in range(3)], boards.SHAPES)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_with_its_place(value: float) -> None:
    board = boards.make_board(boards.make_entry("odd", 0.2, compression={"facts": [1, {"sparsity": value}]}))
    with pytest.raises(StoreError, match=r"^odd: compression\.facts\[1\]\.sparsity is -?(nan|inf), which JSON"):
        leaderboard_json(board)


def test_unknown_types_are_refused_with_their_place() -> None:
    board = boards.make_board(boards.make_entry("odd", 0.2, compression={"made": object()}))
    with pytest.raises(StoreError, match=r"^odd: compression\.made is of type object"):
        leaderboard_json(board)


def test_what_cards_and_runs_may_hold_becomes_plain() -> None:
    made = {"on": date(2026, 5, 4), "from": Path("a/b"), "tags": {"y", "x"}, 3: (1, 2)}
    entry = boards.make_entry("a", 0.2, compression=made, complexity=Complexity(1, None, {"embedding": 1}))
    system = leaderboard_json(boards.make_board(entry))["systems"][0]
    assert system["compression"] == {"on": "2026-05-04", "from": "a/b", "tags": ["x", "y"], "3": [1, 2]}
    assert system["complexity"]["nonzero_parameters"] is None


def test_degenerate_boards_are_plain_too() -> None:
    for board in (boards.make_board(columns=()), boards.make_board(), boards.hostile()):
        json.dumps(leaderboard_json(board), allow_nan=False)
