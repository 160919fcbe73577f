"""From a card's `[weights.NAME]` to files on this machine, every one read and its digest compared or recorded.

A folder that the user gives (`--weights DIR`) is looked into first. What belongs to a card may lie in it as

    DIR/OWNER/NAME, DIR/NAME, or DIR itself where it is called NAME   a repository: a clone, `hf download --local-dir`
    DIR/models--OWNER--NAME                                           a repository, as the hub's cache keeps it
    DIR/PATH                                                          the `path` of a card, or the `member` of a wheel
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from diarbench.cards import SystemSpec, Weights
from diarbench.errors import InputError, MissingRequirementError
from diarbench.fetch import cache_folder, wheel_member
from diarbench.files import digest_of, sha256_of
from diarbench.hub import Snapshot, cached, fetch_snapshot, files_in

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTLED = 2.0  # s: a file that was written later may change once more within the same tick of the clock


@dataclass(frozen=True)
class Found:
    """One `[weights.NAME]`, found: what the adapter is given, and what results record."""

    path: Path  # the file, or a folder that holds the files
    digest: str  # of their content and names: the same wherever they lie
    facts: Mapping[str, Any] = field(default_factory=dict)  # the commit, and the digest of each file
    note: str | None = None  # what the user should know of them


def find_weights(spec: SystemSpec, name: str, source: Weights, folder: Path | None = None) -> Found:
    """The weights that a system's card calls `name`, their digests checked against the card where it gives any.

    `folder` is looked into first. Raises MissingRequirementError where they can't be had, InputError where they are
    there but are not what the card says.
    """
    if source.hub is not None:
        return _find_repository(source, source.hub, folder)
    if source.wheel is not None:
        assert source.member is not None
        assert isinstance(source.sha256, str)
        path = _given(folder, source.member) or wheel_member(source.wheel, source.member, source.sha256)
        return _local(path, source)
    assert source.path is not None
    place = _given(folder, source.path) or spec.folder / os.path.expanduser(source.path)
    if not place.exists():
        also = f" (nor {source.path} in {folder})" if folder is not None else ""
        raise MissingRequirementError(f"its file {name!r} is not there: {place}{also}; say --weights DIR if DIR has it")
    return _local(place, source)


def check_folder(folder: Path | None) -> None:
    """Raises InputError unless the folder that weights should come from is one."""
    if folder is not None and not folder.is_dir():
        raise InputError(f"--weights {folder}: no such folder; give one that holds weights (docs/adding-a-system.md)")


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path inside; compiled Python is left out."""
    inside = sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in inside}


def _given(folder: Path | None, place: str) -> Path | None:
    """What the user's folder holds at that place; an absolute place is in no other folder."""
    if folder is None or place.startswith("~") or Path(place).is_absolute():
        return None
    return folder / place if (folder / place).exists() else None


def _local(path: Path, source: Weights) -> Found:
    if path.is_dir():
        digests = folder_digests(path)
        digest = digest_of([list(item) for item in digests.items()])
        said = source.sha256 if isinstance(source.sha256, dict) else {}
        if isinstance(source.sha256, str) and digest != source.sha256:
            raise InputError(f"{path} has SHA-256 {digest}, the card says {source.sha256}")
    else:
        digest = _sha256(path)
        digests = {path.name: digest}
        said = {path.name: source.sha256} if isinstance(source.sha256, str) else source.sha256 or {}
    _check(path.parent if path.is_file() else path, digests, said)
    # What comes in a wheel was installed under the wheel's licence.
    note = f"weights {path.name}: licence {source.licence}" if source.licence and source.path else None
    return Found(path, digest, {"sha256": digests}, note)


def _find_repository(source: Weights, repository: str, folder: Path | None) -> Found:
    assert source.revision is not None
    assert source.files is not None
    snapshot = _in_folder(folder, repository, source.revision, source.files)
    from_folder = snapshot is not None
    if snapshot is None:
        snapshot = fetch_snapshot(repository, source.revision, source.files, gated=source.gated)
    files = files_in(snapshot.folder, source.files)
    digests = {file: _sha256(snapshot.folder / file) for file in files}
    said = {source.one_file or "": source.sha256} if isinstance(source.sha256, str) else source.sha256 or {}
    _check(snapshot.folder, digests, said)
    for file, digest in digests.items():
        _check_blob(snapshot.folder / file, digest)
    facts: dict[str, Any] = {"commit": snapshot.commit, "sha256": digests}
    compared = set(digests) <= set(said)
    note = _note(source, repository, snapshot, taken=from_folder, compared=compared)
    if source.one_file is not None:
        return Found(snapshot.folder / source.one_file, digests[source.one_file], facts, note)
    return Found(_view(snapshot.folder, files), digest_of([list(item) for item in digests.items()]), facts, note)


def _in_folder(folder: Path | None, repository: str, revision: str, patterns: list[str]) -> Snapshot | None:
    """What the user's folder holds of a repository. Raises MissingRequirementError where that is not all of it."""
    if folder is None:
        return None
    owner, name = repository.split("/")
    own = [folder] if folder.resolve().name == name else []
    for place in (folder / owner / name, folder / name, *own):
        if place.is_dir():
            files_in(place, patterns)
            return Snapshot(place, None)
    return cached(folder, repository, revision, patterns)


def _check(folder: Path, digests: Mapping[str, str], said: Mapping[str, str]) -> None:
    for file, wanted in said.items():
        if file not in digests:
            raise MissingRequirementError(f"{folder} holds no {file}, whose digest is in the card")
        if digests[file] != wanted:
            raise InputError(f"{folder / file} has SHA-256 {digests[file]}, the card says {wanted}: it is not used")


def _check_blob(file: Path, digest: str) -> None:
    """The hub's cache calls large files by their SHA-256: a damaged one is seen though the card gives no digest."""
    blob = file.resolve()
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) and blob.name != digest:
        raise InputError(
            f"{file} is damaged: its SHA-256 is {digest}, the hub's is {blob.name}; remove {blob} and the same command "
            "fetches it again"
        )


def _note(source: Weights, repository: str, snapshot: Snapshot, *, taken: bool, compared: bool) -> str:
    """Licence, and what pins these weights, for people."""
    parts = [f"licence {source.licence}" if source.licence else "no licence in the card"]
    if taken:
        # A folder does not tell its commit.
        parts.append(
            f"taken from {snapshot.folder}{'' if compared else ', not compared with anything: digests are kept'}"
        )
    elif not source.pinned:
        commit = snapshot.commit[:12] if snapshot.commit else "unknown"
        parts.append(f"not pinned: {source.revision} is commit {commit} here, which results record")
    return f"weights {repository}: {'; '.join(parts)}"


def _view(folder: Path, files: list[str]) -> Path:
    """A folder with links to just these files, so that what is read, sized and digested is the same.

    A clone holds much else beside them. Where links can't be made (Windows lets few users), the folder itself.
    """
    links = {file: str((folder / file).resolve()) for file in files}
    place = cache_folder() / "views" / digest_of(links)[:24]
    if place.is_dir():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent) as making:
            for file, target in links.items():
                (Path(making) / "view" / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(making) / "view" / file).symlink_to(target)
            with contextlib.suppress(FileExistsError):  # another process was faster
                (Path(making) / "view").rename(place)
    except OSError:
        return folder
    return place if place.is_dir() else folder


def _sha256(path: Path) -> str:
    """SHA-256 of a file, read once per process: variants of a system share gigabytes of weights."""
    status = path.stat()
    if time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED:
        return sha256_of(path)
    return _sha256_of_unchanged(path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=4096)
def _sha256_of_unchanged(path: Path, *status: int) -> str:
    return sha256_of(path)
