"""Turns from SegLST, STM, RTTM, folders and lists of paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diarbench.errors import InputError, RttmError
from diarbench.turnfiles import read_paths, read_regions, read_seglst, read_side, read_stm, read_turns

SEGMENT = {"session_id": "a", "speaker": "Anna", "start_time": 0.5, "end_time": 2, "words": "hello there"}


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
        return Path(name)

    return write


def rows(turns):
    return [tuple(turn) for turn in turns]


def test_seglst(at):
    segments = [
        SEGMENT,
        {"session_id": "b", "speaker": "Anna Maria", "start_time": "1.25", "end_time": "1.5"},  # as CHiME writes it
        {**SEGMENT, "speaker": "Ben", "start_time": 3, "end_time": 3.0},
    ]
    found = read_seglst(at("x.json", json.dumps(segments))).turns
    assert set(found) == {"a", "b"}
    assert rows(found["a"]) == [(0.5, 2.0, "Anna")]
    assert rows(found["b"]) == [(1.25, 1.5, "Anna Maria")]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"start_time": None}, "x.json, object 2: the key 'start_time' is no text or number"),
        ({"start_time": True}, "x.json, object 2: the key 'start_time' is no text or number"),
        ({"start_time": -1}, "x.json, object 2: the start is negative (-1)"),
        ({"start_time": 4}, "x.json, object 2: it ends (2) before it starts (4)"),
        ({"end_time": "1_0"}, "x.json, object 2: the end '1_0' is no number of seconds"),
        ({"end_time": float("nan")}, "x.json, object 2: the end 'NaN' is no number of seconds"),
        ({"end_time": float("inf")}, "x.json, object 2: the end 'Infinity' is no number of seconds"),
        ({"end_time": "9" * 5000}, "x.json, object 2: the end '99999"),
        ({"session_id": "a/b"}, "x.json, object 2: the recording id 'a/b' can't be used"),
        ({"speaker": ""}, "x.json, object 2: the key 'speaker' is no text or number"),
        ({"speaker": "A\x1b[31m"}, "x.json, object 2: the speaker name 'A\\x1b[31m' has characters that"),
        ({"speaker": "\ud800"}, "x.json, object 2: the speaker name '\\ud800' has characters that"),
    ],
)
def test_bad_segments_are_named(at, change, says):
    with pytest.raises(RttmError) as error:
        read_seglst(at("x.json", json.dumps([SEGMENT, {**SEGMENT, **change}])))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_is_guessed(at):
    segment = {"session_id": "a", "speaker": "A", "start_tme": 0, "end_time": 1}
    with pytest.raises(RttmError, match=r"x.json, object 1: the key 'start_time' is missing; did you mean start_tme"):
        read_seglst(at("x.json", json.dumps([segment])))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "x.json, line 1: no JSON"),
        ('[\n{"a" 1}]', "x.json, line 2: no JSON"),
        ('{"a": []}', "x.json: no JSON list"),
        ("[3]", "x.json, object 1: no JSON object"),
        ("[" * 100_000, "x.json: no SegLST"),
        (json.dumps([SEGMENT]).replace("0.5", "9" * 5000), "x.json, object 1: the start '9999"),
    ],
)
def test_what_is_no_seglst(at, text, says):
    with pytest.raises(RttmError) as error:
        read_seglst(at("x.json", text))
    assert str(error.value).startswith(says)


def test_stm(at):
    file = read_stm(
        at(
            "x.stm",
            ";; a comment\n"
            "a 1 Anna 0.5 2 <o,f0,female> hello there\n"
            "a 1 inter_segment_gap 2 2.5 <o,,> \n"
            "a 1 Ben 2.5 4\n"
            "a 1 Ben 4 5 IGNORE_TIME_SEGMENT_IN_SCORING\n"
            "a 1 Ben 5 6 <o,f0,male> IGNORE_TIME_SEGMENT_IN_SCORING\n"
            "a 1 Excluded_Region 5.5 7 <o,,>\n"
            "b A Cleo 0 1 so <o> said\n"
            "b B Cleo 2 3 indeed\n",
        )
    )
    found = file.turns
    assert rows(found["a"]) == [(0.5, 2.0, "Anna"), (2.5, 4.0, "Ben")]
    assert rows(found["b"]) == [(0.0, 1.0, "Cleo"), (2.0, 3.0, "Cleo")]
    assert file.excluded == {"a": ((4.0, 7.0),)}
    assert file.across == {"b": ("Cleo",)}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a 1 Anna 0", "x.stm, line 2: 4 columns; an STM line has 5 or more"),
        ("a 1 Anna 2 1 hello", "x.stm, line 2: it ends (1) before it starts (2)"),
        ("a 1 Anna -2 1 hello", "x.stm, line 2: the start is negative (-2)"),
        ("a 1 Anna zero 1 hello", "x.stm, line 2: the start 'zero' is no number of seconds"),
        (".a 1 Anna 0 1 hello", "x.stm, line 2: the recording id '.a' can't be used"),
    ],
)
def test_bad_stm_lines_are_named(at, line, says):
    with pytest.raises(RttmError) as error:
        read_stm(at("x.stm", f"a 1 Anna 0 1 hello\n{line}\n"))
    assert str(error.value).startswith(says)


RTTM = "SPEAKER {} 1 0 1 <NA> <NA> Anna <NA> <NA>\n"


def test_formats_go_by_the_ending_unless_said(at):
    at("x.rttm", RTTM.format("one"))
    at("x.STM", "two 1 Anna 0 1\n")
    at("x.json", json.dumps([{**SEGMENT, "session_id": "three"}]))
    at("x.txt", RTTM.format("four"))
    assert set(read_turns(["x.rttm", "x.STM", "x.json", "x.txt"])) == {"one", "two", "three", "four"}
    at("y.txt", "five 1 Anna 0 1\n")
    assert set(read_turns(["y.txt"], "stm")) == {"five"}
    with pytest.raises(InputError, match="no format 'stn' of turns; did you mean stm"):
        read_turns(["y.txt"], "stn")


def test_a_folder_is_of_one_format(at):
    at("both/a.rttm", RTTM.format("a"))
    at("both/deep/b.RTTM", RTTM.format("b"))
    at("both/.c.rttm", "hidden")
    at("both/scores.json", "{}")
    assert set(read_turns(["both"])) == {"a", "b"}
    at("mixed/a.stm", "a 1 Anna 0 1\n")
    at("mixed/b.json", json.dumps([SEGMENT]))
    with pytest.raises(InputError, match="mixed: files of the formats seglst and stm; say which"):
        read_turns(["mixed"])
    assert set(read_turns(["mixed"], "stm")) == {"a"}
    at("none/a.txt", "")
    with pytest.raises(InputError, match=r"none: no .rttm or .json or .stm file in this folder"):
        read_turns(["none"])


def test_an_empty_file_says_that_nobody_speaks(at):
    at("quiet.rttm", "")
    at("calm.json", "[]")
    at("still.stm", ";; nobody\n")
    found = read_turns(["quiet.rttm", "calm.json", "still.stm"])
    assert {name: len(turns) for name, turns in found.items()} == {"quiet": 0, "calm": 0, "still": 0}


def test_a_list_names_files_and_folders(at):
    at("sub folder/a.rttm", RTTM.format("a"))
    at("b.stm", "b 1 Anna 0 1\n")
    at("all.lst", "# ours\nsub folder\n\n  b.stm \n")
    assert read_paths(Path("all.lst")) == [Path("sub folder"), Path("b.stm")]
    assert set(read_turns(["@all.lst"])) == {"a", "b"}
    at("empty.lst", "\n")
    with pytest.raises(RttmError, match=r"empty.lst: no path in this list"):
        read_turns(["@empty.lst"])
    at("zero.lst", "a\0b\n")
    with pytest.raises(RttmError, match=r"zero.lst, line 1: 'a\\x00b' is no path"):
        read_turns(["@zero.lst"])
    with pytest.raises(RttmError, match=r"none.lst: can't be read"):
        read_turns(["@none.lst"])


def test_an_id_is_in_one_file(at):
    at("a.rttm", RTTM.format("same"))
    at("b.stm", "same 1 Anna 0 1\n")
    with pytest.raises(InputError, match=r"b.stm: the recording id 'same' is also in a.rttm"):
        read_turns(["a.rttm", "b.stm"])


def test_regions_from_files_folders_and_lists(at):
    at("uem/a.uem", "a 1 0 1\na 1 1 2\n")
    at("b.uem", "b 1 3 4\n")
    at("uems.lst", "uem\nb.uem\n")
    assert read_regions(["@uems.lst"]) == {"a": ((0.0, 2.0),), "b": ((3.0, 4.0),)}
    at("c.uem", "b 1 0 1\n")
    with pytest.raises(InputError, match=r"c.uem: the recording id 'b' is also in b.uem"):
        read_regions(["b.uem", "c.uem"])
    at("none/a.txt", "")
    with pytest.raises(InputError, match=r"none: no .uem file"):
        read_regions(["none"])


NOSCORE = "NOSCORE one 1 {} {} <NA> <NA> <NA> <NA> <NA>\n"


def test_only_references_mark_what_is_not_scored(at):
    at("x/one.rttm", RTTM.format("one") + NOSCORE.format("0.5", "0.2") + NOSCORE.format("3", "2"))
    at("x/two.rttm", RTTM.format("two"))
    side = read_side(["x"])
    assert side.excluded == {"one": ((0.5, 0.7), (3.0, 5.0))}
    assert side.remarks == (
        "x/one.rttm: marked as not to be scored, and left out of scoring: 2.2 s in 2 regions of 1 recording",
    )
    side = read_side(["x"], reference=False)
    assert side.excluded == {}
    assert "scored all the same, since only a reference's marks count: 2.2 s in 2 regions of 1 rec" in side.remarks[0]


def test_a_name_in_two_channels_is_said(at):
    other = RTTM.replace(" 1 0 ", " 2 5 ")
    at("x/one.rttm", RTTM.format("one") + other.format("one") + RTTM.format("two"))
    at("x/three.rttm", RTTM.format("three") + other.format("three"))
    at("x/four.rttm", RTTM.format("four") + other.replace("Anna", "Ben").format("four"))
    (remark,) = read_side(["x"]).remarks
    assert remark.startswith(
        "x/one.rttm and 1 other file: the recording 'one' has turns of Anna in more than one channel"
    )
