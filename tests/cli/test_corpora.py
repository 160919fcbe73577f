"""`diarbench data list`, `get`, `verify` and `stats`."""

from __future__ import annotations

import csv
import io
import json

import pytest


@pytest.fixture(autouse=True)
def _no_other_data(monkeypatch, tmp_path):
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "80")


def documented(page: str, start: str) -> set[str]:
    section = page.split(f"## {start}\n")[1].split("\n## ")[0]
    return {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}


def keys(value: object, path: str = "") -> set[str]:
    if isinstance(value, dict):
        free = path.endswith((".turn_lengths",))
        names = {".*"} if free else {f".{name}" if path else name for name in value}
        found = {path + name for name in names}
        for name, item in value.items():
            found |= keys(item, path + (".*" if free else f".{name}" if path else name))
        return found
    if isinstance(value, list):
        return set().union(*(keys(item, f"{path}[]") for item in value))
    return set()


def leaves(found: set[str]) -> set[str]:
    return {key for key in found if not any(other.startswith((f"{key}.", f"{key}[]")) for other in found)}


def test_list(diarbench, here):
    answer = diarbench("data", "list", "mine", "voices")
    assert (answer.code, answer.err) == (0, "")
    mine, voices = answer.out.splitlines()
    assert mine.split()[:4] == ["mine", "–", "here", "3"]
    assert "12 of 12 recordings" in voices
    everything = diarbench("data", "list")
    assert everything.code == 0
    assert "missing" in everything.out
    assert "`diarbench data get NAME`" in everything.out
    plain = json.loads(diarbench("data", "list", "m*", "--format", "json").out)
    assert "mine" in [one["name"] for one in plain["datasets"]]
    assert diarbench("data", "list", "nothing-such").code == 2


def test_a_broken_card_is_listed(diarbench, here):
    (here / "datasets" / "bad.toml").write_text("title = 3\n")
    answer = diarbench("data", "list", "bad", "mine")
    assert answer.code == 0
    assert "wrong" in answer.out
    assert "bad.toml" in answer.out


def test_get_tells_the_steps_of_what_can_not_be_downloaded(diarbench, here):
    card = here / "datasets" / "far.toml"
    card.write_text(
        'title = "Far"\nlicence = "LDC"\nget = "buy it"\nsteps = """\\n1. order LDC1\n2. unpack it\n"""\n'
        'uem = "whole-file"\n[folder]\nroot = "far"\n'
    )
    answer = diarbench("data", "get", "far")
    assert answer.code == 1
    assert "no folder 'far'" in answer.out
    assert "  1. order LDC1\n  2. unpack it\n" in answer.out
    plain = json.loads(diarbench("data", "get", "far", "--format", "json").out)["datasets"][0]
    assert plain["steps"] == "1. order LDC1\n2. unpack it"
    answer = diarbench("data", "get", "mine")
    assert answer.code == 0
    assert "mine: here, 3 recordings; next: diarbench data verify mine" in answer.out


def test_get_says_why_it_can_not(diarbench, here, monkeypatch):
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    (here / "datasets" / "away.toml").write_text(
        'title = "Away"\nlicence = "CC0"\nget = "x"\nuem = "whole-file"\n[folder]\nroot = "away"\n'
        '[[download.files]]\nurl = "https://example.invalid/a.wav"\n'
    )
    answer = diarbench("data", "get", "away")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "DIARBENCH_OFFLINE is set" in answer.err
    assert answer.out == "how to get away by hand:\n  x\n"


def test_get_goes_on_after_a_dataset_that_fails(diarbench, here, monkeypatch):
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    for name in ("away", "gone"):
        (here / "datasets" / f"{name}.toml").write_text(
            f'title = "Away"\nlicence = "CC0"\nget = "x"\nuem = "whole-file"\n[folder]\nroot = "{name}"\n'
            f'[[download.files]]\nurl = "https://example.invalid/{name}.wav"\n'
        )
    answer = diarbench("data", "get", "away", "mine", "gone")
    assert answer.code == 1
    assert [line.split(":")[0] for line in answer.err.splitlines()] == ["error", "error"]
    assert ("away.wav" in answer.err, "gone.wav" in answer.err) == (True, True)
    assert "mine: here, 3 recordings" in answer.out
    plain = json.loads(diarbench("data", "get", "away", "mine", "--format", "json").out)["datasets"]
    assert [(one["name"], one["state"]) for one in plain] == [("away", None), ("mine", "here")]
    assert "DIARBENCH_OFFLINE is set" in plain[0]["error"]
    assert plain[1]["error"] is None
    assert plain[0].keys() == plain[1].keys()
    nothing = diarbench("data", "get", "away", "gone")  # nothing was done
    assert (nothing.code, nothing.err.count("error: ")) == (2, 2)
    unknown = diarbench("data", "get", "mine", "nowhere")  # a wrong request: nothing is begun
    assert (unknown.code, unknown.out) == (2, "")


def test_verify(diarbench, here):
    answer = diarbench("data", "verify", "mine", "voices")
    assert (answer.code, answer.err) == (0, "")
    assert "mine: as its card says" in answer.out
    assert "3 recordings" in answer.out
    card = here / "datasets" / "mine.toml"
    card.write_text(card.read_text() + "[expect]\nrecordings = 4\nspeech = 6.0\n")
    answer = diarbench("data", "verify", "mine")
    assert answer.code == 1
    assert "mine: 1 of 3 facts are not as its card says" in answer.out
    assert "  FAILED 3 recordings, 4 expected\n" in answer.out
    assert "  ok     6.0 s of speech, as expected\n" in answer.out
    answer = diarbench("data", "verify", "mine", "dihard-3")
    assert answer.code == 2
    assert answer.err.startswith("error: dataset dihard-3 is not here")
    assert "3 recordings, 4 expected" in answer.out


def test_stats(diarbench, here, tmp_path):
    answer = diarbench("data", "stats", "mine", "voices", "--plot", tmp_path / "p.svg")
    assert answer.code == 0
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert max(map(len, answer.out.splitlines()[:17])) <= 80
    rows = dict(line.split(None, 1) for line in answer.out.splitlines() if line.startswith(("recordings", "turns")))
    assert rows["recordings"].split() == ["3", "12"]
    assert rows["turns"].split() == ["3", "508"]
    assert "| mine | 3 |" in diarbench("data", "stats", "mine", "--format", "markdown").out
    (row,) = csv.DictReader(io.StringIO(diarbench("data", "stats", "mine", "--format", "csv").out))
    assert (row["dataset"], float(row["speech"]), float(row["speech_share"])) == ("mine", 6.0, 40.0)
    answer = diarbench("data", "stats", "mine", "--plot", "p.gif")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: --plot p.gif: name a file that ends with .svg, .png, .pdf or .html\n"


@pytest.mark.parametrize("verb", ["list", "get", "verify", "stats"])
def test_the_keys_are_documented(diarbench, here, verb):
    from diarbench.registry import shipped

    page = (shipped() / "docs" / "json.md").read_text()
    answer = diarbench("data", verb, "mine", "--format", "json")
    found = keys(json.loads(answer.out))
    assert leaves(found) == {key.removesuffix("[]") for key in leaves(documented(page, f"`data {verb}`"))}
