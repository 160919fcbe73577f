"""Files over HTTPS: an interrupted transfer goes on where it was, what arrives is checked, and is whole or absent.

Beside the file that is being fetched lie `NAME.part`, what has arrived, and `NAME.part.json`, of which version of the
file it is. Python's own HTTP client does it: of the libraries at hand, pooch can't resume, and huggingface_hub, which
can, is no dependency of the base install and has it in no public function.
"""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import diarbench
from diarbench.errors import DiarbenchError, InputError, MissingRequirementError, StoreError
from diarbench.fetch import offline
from diarbench.files import read_json, sha256_of, write_json

OnBytes: TypeAlias = Callable[[int, int | None], None]  # so many bytes of so many are here; None: nobody knows how many

_BLOCK = 1 << 18  # bytes at a time
_TIMEOUT = 30.0  # s without a byte
_PAUSES = (1.0, 2.0, 4.0)  # s, before each further try in which nothing arrived
_RETRIED = (408, 425, 429, 500, 502, 503, 504)  # what servers answer that may do better in a moment


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have, and what is known of it."""

    url: str
    path: Path
    bytes: int | None = None
    sha256: str | None = None


class _InterruptedError(Exception):
    """The transfer broke off; what arrived is kept."""


def download(wanted: Wanted, *, on_bytes: OnBytes | None = None, pauses: tuple[float, ...] = _PAUSES) -> bool:
    """Fetch a file unless it is there; whether anything was fetched. Times in `pauses` (s) lie between tries.

    A file that is there is checked by its size and SHA-256 as far as they are known, and never overwritten. Raises
    MissingRequirementError where the file can't be had now, InputError where it is another file or the address is
    wrong, StoreError where it can't be written.
    """
    if wanted.path.exists():
        _check(
            wanted.path, wanted, f"{wanted.path} is there, but is another file: {{}}; move it away and run this again"
        )
        return False
    if offline():
        raise MissingRequirementError(
            f"{wanted.path} is not on this machine and DIARBENCH_OFFLINE is set; unset it, or fetch {wanted.url} "
            "elsewhere"
        )
    part = wanted.path.with_name(f"{wanted.path.name}.part")
    another = f"{wanted.url} is another file than the card means: {{}}; it is not used"
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            resumed = _fetch(wanted, part, on_bytes, pauses)
            try:
                _check(part, wanted, another)
                break
            except InputError:
                part.unlink()
                if not resumed:
                    raise
                # Parts of two versions may have been joined: once more, from the start.
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, wanted.path)
        _origin(part).unlink(missing_ok=True)
    except OSError as error:
        raise _cant_write(wanted, error) from error
    return True


def _check(path: Path, wanted: Wanted, says: str) -> None:
    size = path.stat().st_size
    if wanted.bytes is not None and size != wanted.bytes:
        raise InputError(says.format(f"{size:,} bytes, where {wanted.bytes:,} are expected"))
    if wanted.sha256 is not None and (found := sha256_of(path)) != wanted.sha256:
        raise InputError(says.format(f"SHA-256 {found[:12]}..., where {wanted.sha256[:12]}... is expected"))


def _fetch(wanted: Wanted, part: Path, on_bytes: OnBytes | None, pauses: tuple[float, ...]) -> bool:
    """All bytes into `part`, in as many tries as it takes; whether some were there before."""
    resumed = part.exists() and part.stat().st_size > 0
    fruitless = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(wanted, part, on_bytes)
            return resumed
        except _InterruptedError as error:
            arrived = (part.stat().st_size if part.exists() else 0) > before
            fruitless = 0 if arrived else fruitless + 1
            if fruitless > len(pauses):
                kept = "; what arrived is kept" if part.exists() else ""
                raise MissingRequirementError(
                    f"{wanted.url} can't be fetched ({error}): check the network and run the same command again{kept}"
                ) from error
            time.sleep(pauses[max(0, fruitless - 1)] if pauses else 0.0)


def _transfer(wanted: Wanted, part: Path, on_bytes: OnBytes | None) -> None:
    """One request, from where `part` ends. Raises _InterruptedError where it may go better next time."""
    here = _usable(wanted, part)
    headers = {"User-Agent": f"diarbench/{diarbench.__version__}", "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
        if validator := read_json(_origin(part)).get("validator"):
            headers["If-Range"] = validator
    try:
        request = urllib.request.Request(wanted.url, headers=headers)  # noqa: S310  cards allow http and https alone
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
            if wanted.url.startswith("https://") and not response.url.startswith("https://") and not wanted.sha256:
                raise InputError(
                    f"{wanted.url} leads to {response.url}, which is not encrypted, and the card has no `sha256` of it"
                )
            _receive(wanted, part, response, here, on_bytes)
    except urllib.error.HTTPError as error:
        if error.code == 416 and here:  # nothing after where we are: it is whole, or another file now
            if wanted.bytes != here and wanted.sha256 is None:
                part.unlink()
                raise _InterruptedError("what was here of it was no part of what is there now") from error
            return
        raise _refused(wanted, error) from error
    except urllib.error.URLError as error:
        raise _InterruptedError(_words(error.reason)) from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:  # before the answer's first line
        raise _InterruptedError(_words(error)) from error


def _usable(wanted: Wanted, part: Path) -> int:
    """Bytes of `part` that a transfer can go on from; what can't be used is removed."""
    if not part.exists():
        return 0
    origin: Any = {}
    if _origin(part).is_file():
        try:
            origin = read_json(_origin(part))
        except StoreError:
            origin = {}
    known = isinstance(origin, dict) and origin.get("url") == wanted.url
    if known and (origin.get("validator") or wanted.sha256):
        return part.stat().st_size
    part.unlink()
    return 0


def _receive(wanted: Wanted, part: Path, response: Any, here: int, on_bytes: OnBytes | None) -> None:
    goes_on = response.status == 206
    start = here if goes_on else 0
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdigit() else wanted.bytes
    if goes_on and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {here}-"):
        part.unlink()
        raise _InterruptedError("the server sent another part than was asked for")
    if wanted.bytes is not None and total not in (None, wanted.bytes):
        raise InputError(
            f"{wanted.url} is another file than the card means: {total:,} bytes, where {wanted.bytes:,} are expected; "
            "it is not used"
        )
    if total is not None:
        check_space(part.parent, total - start, wanted.url)
    write_json(_origin(part), {"url": wanted.url, "validator": _validator(response.headers)})
    with part.open("ab" if goes_on else "wb") as file:
        _copy(response, file, start, total, on_bytes)
    if total is not None and (size := part.stat().st_size) < total:
        raise _InterruptedError(f"it broke off after {size:,} of {total:,} bytes")


def _copy(response: Any, file: BinaryIO, start: int, total: int | None, on_bytes: OnBytes | None) -> None:
    done = start
    if on_bytes is not None:
        on_bytes(done, total)
    while block := _read(response):
        file.write(block)
        done += len(block)
        if on_bytes is not None:
            on_bytes(done, total)


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read(_BLOCK))
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(_words(error)) from error


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises StoreError where the disk of the folder has fewer bytes free than are needed."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{what} needs {needed / 1e9:.1f} GB, and the disk of {folder} has {free / 1e9:.1f} GB free: free some, or "
            "name another folder with --into"
        )


def _validator(headers: Any) -> str | None:
    """What tells this version of the file from another (RFC 9110, section 13.1.5: a strong tag, or a date)."""
    tag, date = headers.get("ETag"), headers.get("Last-Modified")
    return str(tag) if tag and not tag.startswith("W/") else str(date) if date else None


def _origin(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _refused(wanted: Wanted, error: urllib.error.HTTPError) -> DiarbenchError | _InterruptedError:
    if error.code in _RETRIED:
        return _InterruptedError(f"the server answered {error.code}")
    if error.code in (404, 410):
        return InputError(
            f"there is no {wanted.url} (the server answered {error.code}): see the card for where it is now"
        )
    if error.code in (401, 403):
        return MissingRequirementError(
            f"{wanted.url} is not for everybody (the server answered {error.code}): fetch it by hand, as the card says"
        )
    return MissingRequirementError(f"{wanted.url} can't be fetched (the server answered {error.code})")


def _cant_write(wanted: Wanted, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"{wanted.path}: no space left on the disk; free some and run the same command again: what arrived is kept"
        )
    return StoreError(f"{wanted.path}: can't be written ({error.strerror or error})")


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {_TIMEOUT:g} s"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    return " ".join(str(error).split())[:200] or type(error).__name__
