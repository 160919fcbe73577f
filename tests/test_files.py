from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.errors import StoreError
from diarbench.files import digest_of, read_json, sha256_of, without_home, write_json, write_whole

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


def test_a_file_appears_with_its_folders_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_whole(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    assert os.listdir(path.parent) == ["c.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "c.bin"
    write_whole(path, b"one")
    write_whole(path, b"two\x00")
    assert path.read_bytes() == b"two\x00"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "no space left on the disk"), (errno.EDQUOT, "no space left"), (errno.EIO, "can't be written")],
)
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, step, number, says):
    path = tmp_path / "c.txt"
    write_whole(path, "before")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StoreError, match=says) as error:
        write_whole(path, "after")
    assert str(path) in str(error.value)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["c.txt"]


def test_a_limit_of_the_system_is_met_by_a_real_write(tmp_path):
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX")
    assert hasattr(resource, "RLIMIT_FSIZE")
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from diarbench.errors import StoreError\n"
        "from diarbench.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "path = Path(sys.argv[1], 'big')\n"
        "write_whole(path, b'x' * 10_000)\n"
        "try:\n"
        "    write_whole(path, b'y' * 20_000)\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "big: can't be written (File too large)" in done.stdout
    assert (tmp_path / "big").read_bytes() == b"x" * 10_000
    assert os.listdir(tmp_path) == ["big"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        write_whole(tmp_path / "a" / "b", "x")


@given(JSON)
def test_json_is_read_as_it_was_written(value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.json")
        write_json(path, value)
        assert read_json(path) == value
        assert path.read_bytes().endswith(b"\n")


def test_names_that_are_not_utf8_survive_json(tmp_path):
    name = os.fsdecode(b"r\xe9cit.wav")
    write_json(tmp_path / "x.json", {"name": name})
    assert read_json(tmp_path / "x.json") == {"name": name}
    assert digest_of(name) != digest_of(os.fsdecode(b"r\xe8cit.wav"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"der": value})
    with pytest.raises(ValueError, match="Out of range"):
        digest_of([value])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": 1,}'])
def test_broken_json_names_the_file_and_the_cure(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.json: can't be read .*the next run makes it anew"):
        read_json(tmp_path / "x.json")


def test_missing_json(tmp_path):
    with pytest.raises(StoreError, match=r"x\.json: can't be read"):
        read_json(tmp_path / "x.json")


def test_a_digest_knows_values_and_not_their_order():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 2}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}, {"b": 1}]
    assert len({digest_of(value) for value in different}) == len(different)


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_text_names_no_home(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", classmethod(lambda _: Path("/home/anna")))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/var/tmp/x")
    text = without_home("No such file: /home/anna/data/a.wav, copied to /var/tmp/x/b.wav; /srv/c.wav")
    assert text == "No such file: ~/data/a.wav, copied to $TMP/b.wav; /srv/c.wav"


def test_a_home_at_the_root_is_left_alone(monkeypatch):
    monkeypatch.setattr(Path, "home", classmethod(lambda _: Path("/")))
    assert without_home("/srv/c.wav") == "/srv/c.wav"


def test_what_is_no_file_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_bytes)
        write_whole(pipe, "through")
        assert read.result(timeout=10) == b"through"
    assert not pipe.is_file()
    done = subprocess.run(
        [sys.executable, "-c", "from pathlib import Path; from diarbench.files import write_whole;"
         "write_whole(Path('/dev/stdout'), 'said')"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == b"said"
    assert Path("/dev/stdout").is_symlink()


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path):
    with pytest.raises(StoreError):
        write_whole(tmp_path, "x")
