from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from diarbench.archives import unpack
from diarbench.errors import InputError, StoreError

FILES = {"audio/a.wav": b"aaa", "audio/deep/b.wav": b"b", "reference.rttm": b"r"}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for info in more:
            file.addfile(info)
    return path


def member(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.fixture(params=["PEP 706", "before"], autouse=True)
def python(request, monkeypatch):
    """As it is, and as it was before Python 3.11.4."""
    if request.param == "before":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", [zipped, tarred])
def test_files_join_those_that_are_there(write, tmp_path):
    folder = tmp_path / "in"
    (folder / "audio").mkdir(parents=True)
    (folder / "audio" / "a.wav").write_bytes(b"half")
    (folder / "audio" / "other.wav").write_bytes(b"o")
    assert unpack(write(tmp_path / "archive", FILES), folder) == 3
    assert tree(folder) == FILES | {"audio/other.wav": b"o"}
    assert not list(folder.glob(".unpacking-*"))


@pytest.mark.parametrize("write", [zipped, tarred])
@pytest.mark.parametrize("name", ["../out", "a/../../out", "a/b/../../../out"])
def test_no_path_leads_out(write, name, tmp_path):
    folder = tmp_path / "deep" / "in"
    with pytest.raises(InputError, match=r"leads out of the folder|outside the destination"):
        unpack(write(tmp_path / "archive", {"good": b"", name: b"evil"}), folder)
    assert not list(tmp_path.rglob("out"))
    assert tree(folder) == {}


def test_absolute_paths(tmp_path):
    evil = tmp_path / "evil"
    with pytest.raises(InputError, match="leads out"):
        unpack(zipped(tmp_path / "a.zip", {str(evil): b"x"}), tmp_path / "in")
    with pytest.raises(InputError, match="leads out"):
        unpack(zipped(tmp_path / "b.zip", {"..\\evil": b"x"}), tmp_path / "in")
    unpack(tarred(tmp_path / "a.tar", {str(evil): b"x"}), tmp_path / "in")  # tar's own rule: without the slash
    assert not evil.exists()


def test_links_and_devices(tmp_path):
    for info in (
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.SYMTYPE, "../../x"),
        member("link", tarfile.LNKTYPE, "../../x"),
        member("device", tarfile.CHRTYPE),
    ):
        with pytest.raises(InputError, match=r"leads out|damaged"):
            unpack(tarred(tmp_path / "a.tar", {}, info), tmp_path / "in")
    assert tree(tmp_path / "in") == {}
    unpack(tarred(tmp_path / "b.tar", FILES, member("short", tarfile.SYMTYPE, "audio")), tmp_path / "in")
    assert (tmp_path / "in" / "short" / "a.wav").read_bytes() == b"aaa"

    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="holds the link"):
        unpack(tmp_path / "a.zip", tmp_path / "in")


@pytest.mark.parametrize("write", [zipped, tarred])
def test_damaged_archives(write, tmp_path):
    archive = write(tmp_path / "a", {"a.wav": bytes(range(256)) * 40, **FILES})
    data = archive.read_bytes()
    for cut in (len(data) // 2, len(data) - 5):
        archive.write_bytes(data[:cut])
        with pytest.raises(InputError, match=r"is damaged|is no zip or tar archive"):
            unpack(archive, tmp_path / "in")
    archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match="is no zip or tar archive"):
        unpack(archive, tmp_path / "in")
    assert tree(tmp_path / "in") == {}


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "in").write_text("a file")
    with pytest.raises(StoreError, match="can't be unpacked there"):
        unpack(zipped(tmp_path / "a.zip", FILES), tmp_path / "in")
