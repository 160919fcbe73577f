from __future__ import annotations

import errno
import hashlib
import json
import random
import sys
from pathlib import Path

import pytest

from diarbench import download as module
from diarbench.download import Wanted, download
from diarbench.errors import InputError, MissingRequirementError, StoreError

sys.path.insert(0, str(Path(__file__).parent))  # file_server.py

from file_server import File, serve

CONTENT = random.Random(0).randbytes(1_000_003)
SHA = hashlib.sha256(CONTENT).hexdigest()
QUICK = (0.0, 0.0)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("DIARBENCH_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve() as running:
        running.files["/a.bin"] = File(CONTENT)
        yield running


def wanted(server, tmp_path: Path, **known) -> Wanted:
    return Wanted(f"{server.url}/a.bin", tmp_path / "in" / "a.bin", **known)


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "in").iterdir())


def test_a_file_comes_whole_and_is_not_fetched_again(server, tmp_path):
    one = wanted(server, tmp_path, sha256=SHA, bytes=len(CONTENT))
    told: list[tuple[int, int | None]] = []
    assert download(one, on_bytes=lambda done, total: told.append((done, total)))
    assert one.path.read_bytes() == CONTENT
    assert left(tmp_path) == ["a.bin"]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert not download(one)
    assert len(server.seen) == 1


def test_a_transfer_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    server.files["/a.bin"].breaks = [300_000, 400_000]
    assert download(wanted(server, tmp_path, sha256=SHA), pauses=QUICK)
    assert (tmp_path / "in" / "a.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.seen] == [None, "bytes=300000-", "bytes=700000-"]


def test_what_arrived_is_kept_for_the_next_command(server, tmp_path):
    file = server.files["/a.bin"]
    file.breaks = [300_000]
    file.statuses = [200, 503, 503, 503]
    with pytest.raises(MissingRequirementError, match=r"the server answered 503\): check the network .* is kept$"):
        download(wanted(server, tmp_path, sha256=SHA), pauses=QUICK)
    assert left(tmp_path) == ["a.bin.part", "a.bin.part.json"]
    server.seen.clear()
    assert download(wanted(server, tmp_path, sha256=SHA), pauses=QUICK)
    assert server.seen == [("/a.bin", "bytes=300000-")]
    assert left(tmp_path) == ["a.bin"]


def begun(server, tmp_path: Path, part: bytes, **origin) -> None:
    """As if a transfer had broken off."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.bin.part").write_bytes(part)
    (tmp_path / "in" / "a.bin.part.json").write_text(json.dumps({"url": f"{server.url}/a.bin", **origin}))


def test_the_part_of_an_older_file_is_not_joined_with_a_newer_one(server, tmp_path):
    begun(server, tmp_path, b"x" * 1000, validator='"zero"')
    assert download(wanted(server, tmp_path))
    assert (tmp_path / "in" / "a.bin").read_bytes() == CONTENT


def test_a_part_that_nobody_can_vouch_for_is_dropped(server, tmp_path):
    server.files["/a.bin"].tag = None
    begun(server, tmp_path, CONTENT[:1000], validator=None)
    assert download(wanted(server, tmp_path))
    assert server.seen == [("/a.bin", None)]


def test_a_wrong_part_is_found_by_the_digest_and_fetched_anew(server, tmp_path):
    begun(server, tmp_path, b"x" * 1000, validator=None)
    assert download(wanted(server, tmp_path, sha256=SHA))
    assert [asked for _, asked in server.seen] == ["bytes=1000-", None]


@pytest.mark.parametrize("part", ["{", "[]", "null"])
def test_a_broken_note_beside_a_part(server, tmp_path, part):
    begun(server, tmp_path, b"x" * 1000)
    (tmp_path / "in" / "a.bin.part.json").write_text(part)
    assert download(wanted(server, tmp_path, sha256=SHA))
    assert [asked for _, asked in server.seen] == [None]


def test_a_part_that_is_the_whole(server, tmp_path):
    begun(server, tmp_path, CONTENT, validator='"one"')
    assert download(wanted(server, tmp_path, sha256=SHA, bytes=len(CONTENT)))
    assert server.seen == [("/a.bin", f"bytes={len(CONTENT)}-")]


def test_servers_that_send_no_parts(server, tmp_path):
    server.files["/a.bin"].ranges = False
    server.files["/a.bin"].breaks = [300_000]
    assert download(wanted(server, tmp_path, sha256=SHA), pauses=QUICK)
    assert (tmp_path / "in" / "a.bin").read_bytes() == CONTENT


def test_servers_that_tell_no_length(server, tmp_path):
    server.files["/a.bin"].length = False
    told: list[tuple[int, int | None]] = []
    assert download(wanted(server, tmp_path, sha256=SHA), on_bytes=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(CONTENT), None)


def test_another_file_is_not_used(server, tmp_path):
    for known, says in (
        ({"sha256": "0" * 64}, f"SHA-256 {SHA[:12]}..., where 000000000000... is expected; it is not used"),
        ({"bytes": 5}, "1,000,003 bytes, where 5 are expected; it is not used"),
    ):
        with pytest.raises(InputError) as error:
            download(wanted(server, tmp_path, **known), pauses=QUICK)
        assert says in str(error.value)
        assert "a.bin" not in left(tmp_path)
        assert "a.bin.part" not in left(tmp_path)


def test_another_file_that_lies_there_is_left_alone(server, tmp_path):
    one = wanted(server, tmp_path, sha256=SHA)
    one.path.parent.mkdir()
    one.path.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"is there, but is another file: SHA-256 .* move it away"):
        download(one)
    assert one.path.read_bytes() == b"mine"
    assert server.seen == []


@pytest.mark.parametrize(
    ("status", "kind", "says", "requests"),
    [
        (404, InputError, "there is no .*/a.bin .*404.*see the card", 1),
        (410, InputError, "there is no", 1),
        (403, MissingRequirementError, "not for everybody .*403.*by hand", 1),
        (418, MissingRequirementError, "can't be fetched .*418", 1),
        (500, MissingRequirementError, "check the network", 3),
        (429, MissingRequirementError, "check the network", 3),
    ],
)
def test_answers_that_are_none(server, tmp_path, status, kind, says, requests):
    server.files["/a.bin"].statuses = [status] * 9
    with pytest.raises(kind, match=says) as error:
        download(wanted(server, tmp_path), pauses=QUICK)
    assert "\n" not in str(error.value)
    assert len(server.seen) == requests


def test_a_server_that_catches_itself(server, tmp_path):
    server.files["/a.bin"].statuses = [500, 503]
    assert download(wanted(server, tmp_path), pauses=QUICK)


def test_files_that_moved(server, tmp_path):
    server.files["/old"] = File(to="/a.bin")
    assert download(Wanted(f"{server.url}/old", tmp_path / "a.bin", sha256=SHA))
    server.files["/ring"] = File(to="/ring")
    with pytest.raises(MissingRequirementError, match="/ring can't be fetched"):
        download(Wanted(f"{server.url}/ring", tmp_path / "b.bin"), pauses=QUICK)


def test_no_server(server, tmp_path):
    with pytest.raises(MissingRequirementError, match=r"can't be fetched .*efused.*check the network"):
        download(Wanted("http://127.0.0.1:1/a.bin", tmp_path / "a.bin"), pauses=QUICK)


def test_offline(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    with pytest.raises(MissingRequirementError, match="DIARBENCH_OFFLINE is set; unset it, or fetch http"):
        download(wanted(server, tmp_path))
    assert server.seen == []


def test_a_full_disk(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
        with pytest.raises(StoreError, match=r"needs 0\.0 GB, and the disk of .* has 0\.0 GB free"):
            download(wanted(server, tmp_path))

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_copy", no_space)
    with pytest.raises(StoreError, match=r"no space left on the disk; free some .* what arrived is kept"):
        download(wanted(server, tmp_path))


def test_a_folder_that_can_not_be_made(server, tmp_path):
    (tmp_path / "in").write_text("a file")
    with pytest.raises(StoreError, match="can't be written"):
        download(wanted(server, tmp_path))
