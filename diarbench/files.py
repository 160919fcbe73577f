"""Files on disk that are whole or absent, JSON without NaN, and text that names no home folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from diarbench.errors import StoreError


def write_whole(path: Path, content: bytes | str, *, sync_folder: bool = True) -> None:
    """Write a file so that it is whole or absent whatever happens: temporary file, sync, rename, sync the folder.

    Until the folder is synced, a power cut may bring back what the name stood for before. `sync_folder=False` leaves
    that to the next file in the same folder.
    What is no file to be replaced (a pipe, a terminal, /dev/stdout) is written to as it is.
    Raises StoreError where the disk is full or the folder can't be written; what was there before stays.
    """
    # Lone surrogates (in names of files that are not UTF-8) become \udcXX, which JSON reads back as they were.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary: str | None = None
    try:
        if _is_stream(path):
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
        temporary = None
        if sync_folder:
            _sync_folder(path.parent)
    except OSError as error:
        raise _store_error(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _is_stream(path: Path) -> bool:
    """Whether a name stands for something that another file must not take the place of."""
    devices = path.absolute().parts[:2] in (("/", "dev"), ("/", "proc")) and "shm" not in path.parts
    return devices or (path.exists() and not path.is_file())


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or absent, keys in the order given; raises ValueError for NaN or infinity."""
    write_whole(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises StoreError naming the file."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: can't be read ({error}); remove it, and the next run makes it anew") from error


def digest_of(value: Any) -> str:
    """SHA-256 (hexadecimal) of a JSON-able value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def without_home(text: str) -> str:
    """The text with the home folder and the temporary folder written as ~ and $TMP: results name no private path."""
    replacements = {tempfile.gettempdir(): "$TMP"}
    with contextlib.suppress(RuntimeError):  # a user without a home folder
        # A home behind a link is known by both of its names; the longer one first.
        homes = {str(Path.home()), str(Path.home().resolve())}
        replacements = dict.fromkeys(sorted(homes, key=len, reverse=True), "~") | replacements
    for path, short in replacements.items():
        if len(path) > 1:
            text = text.replace(path, short)
    return text


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems can't sync a folder; the file itself is synced.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _store_error(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"{path}: no space left on the disk; free some and run the same command again: what is done is kept"
        )
    return StoreError(f"{path}: can't be written ({error.strerror})")


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
