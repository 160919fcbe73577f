from __future__ import annotations

import math
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diarbench.errors import RttmError
from diarbench.rttm import (
    check_id,
    format_rttm,
    format_uem,
    merge_spans,
    read_list,
    read_rttm,
    read_rttm_file,
    read_uem,
    without_spans,
)
from diarbench.types import Turn, Turns

LINE = "SPEAKER rec 1 1.5 2.25 <NA> <NA> Anna <NA> <NA>"


@pytest.fixture
def file(tmp_path: Path):
    def write(content: str | bytes, name: str = "x.rttm") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def line(start="0", duration="1", speaker="A", recording="rec", columns=10) -> str:
    return " ".join(["SPEAKER", recording, "1", start, duration, "<NA>", "<NA>", speaker, "<NA>", "<NA>"][:columns])


# --- what is read


@pytest.mark.parametrize(
    "content",
    [
        LINE,
        LINE + "\n",
        LINE.replace(" ", "\t") + "\n",
        "  " + LINE.replace(" ", "   ") + "  \n\n\n",
        LINE + "\r\n",
        "\r\n\r\n" + LINE + "\r\n",
        LINE + "\r",
        "\ufeff" + LINE + "\n",
        ";; a comment\n# another\n" + LINE,
        "SPKR-INFO rec 1 <NA> <NA> <NA> unknown Anna <NA> <NA>\n"
        + LINE
        + "\nLEXEME rec 1 1.5 .2 hm lex Anna .5 <NA>\n",
        "SPEAKER rec 1 1.5 2.25 <NA> <NA> Anna",
        "SPEAKER rec 1 1.5 2.25 <NA> <NA> Anna <NA>",
        "SPEAKER rec 1 +1.50 2250e-3 <NA> <NA> Anna <NA> <NA>",
        "SPEAKER rec 1 15.E-1 2.250000000 <NA> <NA> Anna 0.9 <NA>",
        LINE + "\nSPEAKER rec 1 7 0 <NA> <NA> Anna <NA> <NA>",
        LINE + "\nSPEAKER rec 1 7 0.000 <NA> <NA> Bert <NA> <NA>",
    ],
)
def test_the_same_turn_however_it_is_written(file, content):
    assert {name: list(turns) for name, turns in read_rttm(file(content)).items()} == {"rec": [Turn(1.5, 3.75, "Anna")]}


def test_old_macintosh_line_ends(file):
    assert len(read_rttm(file(f"{line()}\r{line('2')}\r"))["rec"]) == 2


def test_two_speakers_on_one_segment_stay_two(file):
    turns = read_rttm(file(line(speaker="A") + "\n" + line(speaker="B")))["rec"]
    assert list(turns) == [Turn(0, 1, "A"), Turn(0, 1, "B")]


def test_recordings_in_one_file(file):
    read = read_rttm(file("\n".join(line(recording=name) for name in ("b", "a", "b"))))
    assert {name: len(turns) for name, turns in read.items()} == {"b": 2, "a": 1}


def test_a_recording_of_zero_length_turns_is_known_and_silent(file):
    assert read_rttm(file(line("3", "0"))) == {"rec": Turns.of([])}


@pytest.mark.parametrize("content", ["", "\n", ";; nothing\n", "\ufeff"])
def test_an_empty_file_has_no_recordings(file, content):
    assert read_rttm(file(content)) == {}


def test_what_is_not_to_be_scored(file):
    marks = "NOSCORE rec 1 0.7 0.1\nNOSCORE rec 1 0.8 1 <NA> <NA> <NA> <NA> <NA>\nNOSCORE b 1 5 0\n"
    found = read_rttm_file(file(f"{line()}\n{marks}NO_RT_METADATA rec 1 3 1 <NA> <NA> <NA> <NA>\n"))
    assert found.excluded == {"rec": ((0.7, 1.8),)}
    assert set(found.turns) == {"rec"}


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("NOSCORE rec 1 1", "line 2: 4 columns; a NOSCORE line has 5 or more"),
        ("NOSCORE rec 1 1 x", "line 2: the duration 'x' is no number of seconds"),
        ("NOSCORE rec 1 1 -1", "line 2: the duration is negative (-1)"),
        ("NOSCORE a/b 1 1 1", "line 2: the recording id 'a/b' can't be used"),
    ],
)
def test_marks_that_cannot_be_read_are_named(file, mark, says):
    with pytest.raises(RttmError) as error:
        read_rttm(file(f"{line()}\n{mark}\n"))
    assert says in str(error.value)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))),
)
def test_spans_without_others(spans, excluded):
    def seconds(spans):
        return {second for start, end in spans for second in range(start, end)}

    left = without_spans(merge_spans(spans), merge_spans(excluded))
    assert seconds(left) == seconds(merge_spans(spans)) - seconds(merge_spans(excluded))
    assert all(start < end for start, end in left)
    assert all(before[1] < after[0] for before, after in pairwise(left))


def test_other_scripts_are_text(file):
    assert read_rttm(file(line(speaker="Zoë", recording="запись-1")))["запись-1"].labels == ("Zoë",)


@given(st.integers(0, 10**7), st.integers(1, 10**6), st.integers(0, 6))
@example(7, 1, 1)  # 0.7 + 0.1 is 0.7999999999999999 in binary
def test_turns_that_touch_on_paper_touch(start, duration, digits):
    def written(value: int) -> str:
        return f"{value / 10**digits:.{digits}f}"

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.rttm")
        path.write_text(line(written(start), written(duration)) + "\n" + line(written(start + duration), "5"))
        first, second = read_rttm(path)["rec"]
    assert first.end == second.start


# --- what is refused


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (line(duration="-1"), "the duration is negative (-1)"),
        (line(duration="-0.001"), "the duration is negative"),
        (line(start="-0.5"), "the start is negative (-0.5)"),
        (line(columns=7), "7 columns"),
        (line(columns=3), "3 columns"),
        ("SPEAKER", "1 columns"),
        (line(speaker="Anna Bell"), "11 columns"),
        (line() + " <NA>", "11 columns"),
        (line(start="nan"), "'nan' is no number"),
        (line(start="inf"), "'inf' is no number"),
        (line(duration="Infinity"), "'Infinity' is no number"),
        (line(duration="-inf"), "'-inf' is no number"),
        (line(duration="1e999"), "'1e999' is longer than any recording"),
        (line(start="1e308", duration="1e308"), "longer than any recording"),
        (line(start="1e99999999999999999999"), "no number"),
        (line(start="1_0"), "'1_0' is no number"),
        (line(start="٣"), "is no number"),
        (line(start="0x10"), "'0x10' is no number"),
        (line(start="1,5"), "'1,5' is no number"),
        (line(start="<NA>"), "'<NA>' is no number"),
        (line(recording="../../etc/passwd"), "'../../etc/passwd' can't be used"),
        (line(recording=".hidden"), "can't be used"),
        (line(recording="a/b"), "can't be used"),
        (line(recording="a\\b"), "can't be used"),
        (line(recording="C:x"), "can't be used"),
        (line(recording="x\0y"), "can't be used"),
        (line(recording="x" * 201), "can't be used"),
        (line(recording="語" * 67), "can't be used"),
        ("rec 1 0 1", "'rec' is no RTTM line type"),
        ("speaker rec 1 0 1 <NA> <NA> A <NA> <NA>", "'speaker' is no RTTM line type"),
        ('{"turns": []}', "is no RTTM line type"),
    ],
)
def test_a_bad_line_is_named(file, bad, says):
    path = file(f"{line()}\n;; comment\n\n{bad}\n{line()}\n")
    with pytest.raises(RttmError) as error:
        read_rttm(path)
    text = str(error.value)
    assert text.startswith(f"{path}, line 4: ")
    assert says in text
    assert "\n" not in text
    assert len(text) < len(str(path)) + 250
    assert (error.value.path, error.value.line) == (path, 4)


def test_line_numbers_count_carriage_returns_once(file):
    with pytest.raises(RttmError, match="line 3: "):
        read_rttm(file(f"{line()}\r\n{line()}\r\nbroken\r\n"))


@pytest.mark.parametrize("content", [b"\xff\xfeS\x00P\x00", b"SPEAKER r\xe9c 1 0 1 <NA> <NA> A <NA> <NA>", b"\x80"])
def test_other_encodings_are_refused(file, content):
    with pytest.raises(RttmError, match="not a UTF-8 text file"):
        read_rttm(file(content))


@pytest.mark.parametrize("read", [read_rttm, read_uem, read_list])
def test_what_is_no_file(tmp_path, read):
    with pytest.raises(RttmError, match=r"nowhere\.rttm: can't be read: No such file"):
        read(tmp_path / "nowhere.rttm")
    with pytest.raises(RttmError, match="can't be read: Is a directory"):
        read(tmp_path)


# --- fuzz: a clear error or a right answer, never another exception


def read_bytes(read, content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.rttm")
        path.write_bytes(content)
        try:
            return read(path)
        except RttmError as error:
            problem = str(error)
    assert "\n" not in problem
    return None


def is_sound(found: dict[str, Turns] | None) -> bool:
    """Every id safe, every time finite and in order, every speaker one word."""
    return found is None or all(
        check_id(name, "") == name
        and all(0 <= t.start < t.end < math.inf and t.speaker.split() == [t.speaker] for t in turns)
        for name, turns in found.items()
    )


@given(st.binary(max_size=300))
def test_any_bytes(content):
    assert is_sound(read_bytes(read_rttm, content))
    spans = read_bytes(read_uem, content)
    assert spans is None or all(0 <= s < e for found in spans.values() for s, e in found)
    ids = read_bytes(read_list, content)
    assert ids is None or len(set(ids)) == len(ids)


ODD = st.sampled_from(
    ["", " ", "\t", "\0", "-", "nan", "inf", "-1", "1e400", "1e-400", "\r", "\x1c", "\x85", "\u2028", "\xa0", "../",
     ";;", "<NA>", "SPEAKER", "0", "9" * 400, "\ufeff", "\ud7ff", "٣", "1_0", "0x1", "1.", ".5", "5e"]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 12), ODD), max_size=6))
def test_lines_with_pieces_replaced(changes):
    text = "\n".join([LINE, line("3", "0"), ";; x", line("4.25", "0.5", "Bert")])
    for place, length, piece in changes:
        text = text[:place] + piece + text[place + length :]
    assert is_sound(read_bytes(read_rttm, text.encode()))


@given(st.lists(st.lists(st.one_of(ODD, st.text(max_size=8)), max_size=11), max_size=5))
def test_lines_of_odd_words(lines):
    text = "\n".join("SPEAKER " + " ".join(words) for words in lines)
    assert is_sound(read_bytes(read_rttm, text.encode("utf-8", "ignore")))


# --- there and back

MILLISECONDS = st.integers(0, 10**8)
TURNS = st.lists(
    st.tuples(MILLISECONDS, st.integers(1, 10**6), st.sampled_from(["A", "B", "Zoë", "speaker_01"])), max_size=20
).map(lambda rows: Turns.of([(s / 1000, (s + d) / 1000, who) for s, d, who in rows]))


@given(TURNS)
def test_written_turns_are_read_as_they_were(turns):
    found = read_bytes(read_rttm, format_rttm("rec", turns).encode())
    assert found is not None
    assert found.get("rec", Turns.of([])) == turns


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 100)), max_size=10), st.integers(0, 6))
def test_any_turns_are_read_within_half_a_digit(rows, digits):
    turns = Turns.of([(start, start + duration, f"s{i}") for i, (start, duration) in enumerate(rows)])
    found = read_bytes(read_rttm, format_rttm("rec", turns, digits).encode())
    assert found is not None
    read = {turn.speaker: turn for turn in found.get("rec", Turns.of([]))}
    for turn in turns:
        if turn.speaker in read:
            assert read[turn.speaker].start == pytest.approx(turn.start, abs=0.5001 * 10**-digits)
            assert read[turn.speaker].end == pytest.approx(turn.end, abs=0.5001 * 10**-digits)
        else:
            assert turn.end - turn.start <= 1.0001 * 10**-digits


def test_format_is_the_tenth_column_layout():
    assert format_rttm("rec", Turns.of([(1.5, 3.75, "Anna")])) == (
        "SPEAKER rec 1 1.500 2.250 <NA> <NA> Anna <NA> <NA>\n"
    )


# --- UEM and lists


def test_uem_spans_are_sorted_and_joined(file):
    path = file("rec 1 5.0 9\nother 1 0 3\nrec\t1\t0 4\r\nrec 1 4.0 5.000\nrec 1 20 30\n", "x.uem")
    assert read_uem(path) == {"rec": ((0, 9), (20, 30)), "other": ((0, 3),)}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("rec 1 0", "3 columns"),
        ("my rec 1 2 10", "5 columns"),
        ("rec 1 5 5", "the span ends (5) no later than it starts (5)"),
        ("rec 1 5 4", "no later"),
        ("rec 1 -1 4", "the start is negative"),
        ("rec 1 nan 4", "is no number"),
        ("rec 1 0 inf", "is no number"),
        ("../rec 1 0 4", "can't be used"),
    ],
)
def test_a_bad_uem_line_is_named(file, bad, says):
    path = file(f"ok 1 0 3\n{bad}\n", "x.uem")
    with pytest.raises(RttmError) as error:
        read_uem(path)
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert says in str(error.value)


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.lists(st.tuples(MILLISECONDS, st.integers(1, 10**6)), min_size=1, max_size=5)
    )
)
def test_written_uems_are_read_as_they_were(raw):
    uems = {name: merge_spans([(s / 1000, (s + d) / 1000) for s, d in spans]) for name, spans in raw.items()}
    assert read_bytes(read_uem, format_uem(uems).encode()) == uems


def test_lists_keep_their_order(file):
    assert read_list(file("b\n;; comment\r\n\n a \nc", "x.lst")) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\nb\na\n", "line 3: the recording id 'a' is there twice (first on line 1)"),
        ("a\nb c\n", "line 2: one recording id per line was expected, found 2 words"),
        ("a\n../b\n", "line 2: the recording id '../b' can't be used"),
        ("..\n", "line 1: the recording id '..' can't be used"),
    ],
)
def test_a_bad_list_line_is_named(file, content, says):
    with pytest.raises(RttmError) as error:
        read_list(file(content, "x.lst"))
    assert says in str(error.value)


@pytest.mark.parametrize("good", ["a", "ES2004a", "a.b-c_d", "x" * 200, "語" * 66, "-a", "{x}"])
def test_ids_that_may_be(good):
    assert check_id(good, "f") == good


@given(st.text(max_size=20))
def test_an_id_is_one_safe_word(text):
    try:
        check_id(text, "f")
    except RttmError:
        return
    assert text.split() == [text]
    assert Path(text).name == text
    assert text not in (".", "..")
    assert not text.startswith(".")
    assert "\0" not in text


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(-3, 20)), max_size=12))
def test_merged_spans_cover_the_same_and_are_apart(raw):
    spans = [(start, start + length) for start, length in raw]
    merged = merge_spans(spans)
    assert all(end < start for (_, end), (start, _) in pairwise(merged))
    covered = {second for start, end in spans for second in range(start, end)}
    assert covered == {second for start, end in merged for second in range(start, end)}
