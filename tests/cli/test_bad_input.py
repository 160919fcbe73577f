"""Wrong input: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

AUDIO = Path("datasets/mine/audio")
REFERENCE = Path("datasets/mine/reference.rttm")


def missing_audio() -> None:
    (AUDIO / "b.wav").unlink()


def truncated_wav() -> None:
    content = (AUDIO / "b.wav").read_bytes()
    (AUDIO / "b.wav").write_bytes(content[: len(content) // 2])


def empty_file() -> None:
    (AUDIO / "b.wav").write_bytes(b"")


def two_channels() -> None:
    soundfile.write(str(AUDIO / "b.wav"), np.zeros((16000, 2)), 16000)


def not_in_the_references() -> None:
    Path("datasets/mine/list.txt").write_text("a\nnew\n")
    add_to_card('list = "list.txt"')


def twice_in_the_list() -> None:
    Path("datasets/mine/list.txt").write_text("a\nb\na\n")
    add_to_card('list = "list.txt"')


def two_audio_files_of_one_id() -> None:
    soundfile.write(str(AUDIO / "b.flac"), np.zeros(16000), 16000)


def negative_duration() -> None:
    REFERENCE.write_text(REFERENCE.read_text() + "SPEAKER a 1 4 -1 <NA> <NA> A <NA> <NA>\n")


def missing_column() -> None:
    REFERENCE.write_text(REFERENCE.read_text() + "SPEAKER a 1 4 1\n")


def id_that_climbs() -> None:
    REFERENCE.write_text(REFERENCE.read_text() + "SPEAKER ../../evil 1 4 1 <NA> <NA> A <NA> <NA>\n")


def unknown_key() -> None:
    Path("systems/good.toml").write_text('title = "Good"\nadaptor = "./adapter.py:System"\n')


def unknown_dataset_key() -> None:
    add_to_card("collar = 0.25")


def broken_toml() -> None:
    Path("systems/good.toml").write_text('title = "Good\n')


def add_to_card(line: str) -> None:
    with Path("datasets/mine.toml").open("a") as file:
        file.write(line + "\n")


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (missing_audio, "no audio file for the recording 'b'"),
        (truncated_wav, "b.wav: truncated: the header promises"),
        (empty_file, "b.wav: the file is empty"),
        (two_channels, "b.wav: has 2 channels, and the dataset card names no channel rule"),
        (not_in_the_references, "the recording 'new' is in the list, but not in the references"),
        (twice_in_the_list, "list.txt, line 3: the recording id 'a' is there twice (first on line 1)"),
        (two_audio_files_of_one_id, "the recording id 'b' has another audio file"),
        (negative_duration, "reference.rttm, line 4: the duration is negative"),
        (missing_column, "reference.rttm, line 4: 5 columns"),
        (id_that_climbs, "reference.rttm, line 4: the recording id '../../evil' can't be used"),
        (unknown_key, "good.toml, line 2: unknown key 'adaptor'; did you mean adapter?"),
        (unknown_dataset_key, "unknown key 'folder.collar'"),
        (broken_toml, "good.toml: not valid TOML"),
    ],
)
def test_one_line_exit_two_nothing_written(diarbench, here, break_it: Callable[[], None], says: str):
    break_it()
    before = sorted(here.rglob("*"))
    answer = diarbench("run", "-s", "good", "-d", "mine")
    assert answer.code == 2
    assert says in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-s", "god", "-d", "mine"), "no system 'god'; did you mean good?"),
        (("-s", "good", "-d", "mime"), "no dataset 'mime'; did you mean mine?"),
        (("-s", "good"), "nothing to run: name datasets (-d)"),
        (("nonsense",), "no report 'nonsense'"),
        (("pruning-table-2",), "pruning-table-2 is a published table; `diarbench report pruning-table-2` shows it"),
        (("published/own.toml",), "published/own.toml is a published table; `diarbench report published/own.toml`"),
        (("-s", "good", "-d", "mine", "--rule", "fairr"), "did you mean fair?"),
        (("-s", "good", "-d", "mine", "--machine", "../evil"), "can't be used"),
        (("-s", "../up.toml", "-d", "mine"), "can't be read"),
        (("-s", "good", "-d", "mine", "--cards", "nowhere"), "nowhere: holds none of the folders"),
    ],
)
def test_wrong_requests(diarbench, here, words: tuple[str, ...], says: str):
    before = sorted(here.rglob("*"))
    answer = diarbench("run", *words)
    assert answer.code == 2
    assert says in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_results_that_can_not_be_written(diarbench, here):
    Path("runs").write_text("a file where the folder should be")
    answer = diarbench("run", "-s", "good", "-d", "mine")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("error: runs")
    assert Path("runs").read_text() == "a file where the folder should be"


@pytest.mark.parametrize(
    ("words", "says", "helped"),
    [
        ("run --lmit 2", "no such option: --lmit", "run"),
        ("run --limit 0", "'--limit'", "run"),
        ("run --limit x", "'--limit'", "run"),
        ("run --rule", "'--rule'", "run"),
        ("run a b", "unexpected extra argument", "run"),
        ("report --format pdf", "'--format'", "report"),
        ("score", "'--reference'", "score"),
        ("check", "CARD", "check"),
        ("new system", "name", "new system"),
        ("data nosuch", "no such command 'nosuch'", "data"),
        ("nosuch", "no such command 'nosuch'", ""),
        ("--nosuch", "no such option: --nosuch", ""),
    ],
)
def test_wrong_options_are_one_line(diarbench, here, words: str, says: str, helped: str):
    answer = diarbench(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert says in answer.err
    assert answer.err.endswith(f"`{' '.join(['diarbench', *helped.split()])} --help` shows what it takes\n")
    assert answer.err.count("\n") == 1


def test_a_run_is_not_told_of_published_tables(diarbench, here):
    assert "pruning-table-" not in diarbench("run", "pruning-table").err
    assert "did you mean pruning-table-" in diarbench("report", "pruning-table").err


@pytest.mark.parametrize("words", ["", "new", "data"])
def test_a_verb_without_its_words_shows_the_help(diarbench, here, words: str):
    answer = diarbench(*words.split())
    assert answer.code == 2
    assert answer.err.startswith(f"Usage: {' '.join(['diarbench', *words.split()])} ")
    assert "error:" not in answer.err


def test_stopping_is_told(diarbench, here, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diarbench.plan.plan", stop)
    answer = diarbench("run", "-s", "good", "-d", "mine")
    assert (answer.code, answer.err) == (130, "\nstopped; what is done is kept: the same command goes on from here\n")
