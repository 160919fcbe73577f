"""Files of repositories on the Hugging Face hub, in the hub's own cache on this machine; knows nothing of cards.

The cache is `$HF_HUB_CACHE`, or `$HF_HOME/hub`, or `~/.cache/huggingface/hub`, where other programs keep theirs too:

    models--OWNER--NAME/refs/REVISION          the commit that a branch or tag was at; or datasets--OWNER--NAME
    models--OWNER--NAME/snapshots/COMMIT/...   its files: links to blobs, of which large ones are named by their SHA-256

What is there needs no library; fetching goes through `huggingface_hub`, which is imported only then.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from diarbench.errors import DiarbenchError, InputError, MissingRequirementError, StoreError
from diarbench.fetch import offline

Kind: TypeAlias = Literal["model", "dataset"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its switches


@dataclass(frozen=True)
class Snapshot:
    """A folder with files of a repository, and the commit that they are of; None where nobody knows."""

    folder: Path
    commit: str | None


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetched."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    place = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(place)))


def why_offline() -> str | None:
    """The variable that says that nothing may be fetched from a hub, diarbench's or the hub's own; None without one."""
    if offline():
        return "DIARBENCH_OFFLINE"
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").upper() in _TRUE), None)


def files_in(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Paths inside the folder of the files that the patterns name, sorted; what is hidden is none of them.

    Raises MissingRequirementError where a pattern names none.
    """
    found: set[str] = set()
    for pattern in patterns:
        if "*" not in pattern:
            these = {pattern} if (folder / pattern).is_file() else set()
        else:
            inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
            shown = (path.as_posix() for path in inside if not any(part.startswith(".") for part in path.parts))
            these = {path for path in shown if fnmatchcase(path, pattern)}
        if not these:
            raise MissingRequirementError(f"{folder} holds no {pattern}, which the card names; it is not whole")
        found |= these
    return sorted(found)


def cached(
    cache: Path, repository: str, revision: str, patterns: Sequence[str], kind: Kind = "model"
) -> Snapshot | None:
    """What a folder laid out as the hub's cache holds of a repository; None unless it has a file for each pattern."""
    place = cache / f"{kind}s--{repository.replace('/', '--')}"
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (place / "refs" / revision).read_text().strip()
        except OSError:
            return None
    folder = place / "snapshots" / commit
    try:
        files_in(folder, patterns)
    except MissingRequirementError:
        return None
    return Snapshot(folder, commit)


def fetch_snapshot(
    repository: str, revision: str, patterns: Sequence[str], *, gated: bool = False, kind: Kind = "model"
) -> Snapshot:
    """The files of a repository at a commit, branch or tag: from the hub's cache, or fetched into it.

    A commit whose files are all named and all there is not asked for again. A branch is looked up once per process,
    and where the hub can't be reached, it is what it was. Raises MissingRequirementError, in one line that says what to
    do, where the files can't be had; InputError where there is no such repository, revision or file; StoreError where
    they can't be written.
    """
    cache = hub_cache()
    here = cached(cache, repository, revision, patterns, kind)
    if switch := why_offline():
        if here is not None:
            return here
        raise MissingRequirementError(
            f"{repository} ({revision}) is not on this machine ({cache}) and {switch} is set; unset "
            f"it, or {_by_hand(repository, kind)}"
        )
    if here is not None and _COMMIT.fullmatch(revision) and _is_whole(cache, repository, revision, patterns, kind):
        return here
    return _fetched(cache, repository, revision, tuple(patterns), gated, _endpoint(), kind)


def _is_whole(cache: Path, repository: str, commit: str, patterns: Sequence[str], kind: Kind) -> bool:
    """Whether a snapshot with a file for each pattern has all of them: the library kept a list of what there is."""
    if not any("*" in pattern for pattern in patterns):
        return True
    try:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        return True
    try:
        huggingface_hub.snapshot_download(
            repository,
            repo_type=kind,
            revision=commit,
            allow_patterns=list(patterns),
            cache_dir=cache,
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return False
    return True


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _by_hand(repository: str, kind: Kind) -> str:
    name = repository.split("/")[1]
    if kind == "dataset":
        return (
            f"fetch it elsewhere (`hf download --repo-type dataset {repository} --local-dir DIR`) and write root = "
            '"DIR" instead of `hub` and `revision` in the card'
        )
    return f"fetch it elsewhere (`hf download {repository} --local-dir DIR/{name}`) and say --weights DIR"


@lru_cache(maxsize=256)
def _fetched(
    cache: Path, repository: str, revision: str, patterns: tuple[str, ...], gated: bool, endpoint: str, kind: Kind
) -> Snapshot:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingRequirementError(
            f"fetching {repository} needs huggingface_hub: pip install huggingface_hub; or {_by_hand(repository, kind)}"
        ) from error
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with _quiet():
            if _COMMIT.fullmatch(revision):  # else it would try again and again, for 23 s, before it says why not
                huggingface_hub.HfApi(endpoint).repo_info(repository, repo_type=kind, revision=revision, timeout=10)
            folder = Path(
                huggingface_hub.snapshot_download(
                    repository,
                    repo_type=kind,
                    revision=revision,
                    allow_patterns=list(patterns),
                    cache_dir=cache,
                    endpoint=endpoint,
                    library_name="diarbench",
                )
            )
    except LocalEntryNotFoundError as error:  # what it says when the hub failed and nothing is here; why is behind it
        raise _explain(error.__cause__ or error, repository, revision, gated, endpoint, kind) from error
    except Exception as error:
        raise _explain(error, repository, revision, gated, endpoint, kind) from error
    try:
        files_in(folder, patterns)
    except MissingRequirementError:
        lacking = [pattern for pattern in patterns if not _any(folder, pattern)]
        raise InputError(
            f"{repository} ({revision}, commit {folder.name[:8]}) has no file {lacking[0]!r}; see "
            f"{_page(endpoint, repository, kind)}/tree/{revision}, and correct `files` in the card"
        ) from None
    return Snapshot(folder, folder.name)


def _any(folder: Path, pattern: str) -> bool:
    try:
        return bool(files_in(folder, [pattern]))
    except MissingRequirementError:
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings, since what is wrong we say in a line of our own; bars only on a terminal."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    without_bars = not sys.stderr.isatty() and not are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    if without_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(before)
        if without_bars:
            enable_progress_bars()


def _page(endpoint: str, repository: str, kind: Kind) -> str:
    return f"{endpoint}/{'datasets/' if kind == 'dataset' else ''}{repository}"


def _explain(
    error: BaseException, repository: str, revision: str, gated: bool, endpoint: str, kind: Kind
) -> DiarbenchError:
    """What went wrong and what to do about it, in one line without the token."""
    from huggingface_hub import errors

    endpoint = _without_password(endpoint)
    page = _page(endpoint, repository, kind)
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    said = str(getattr(response, "headers", {}).get("X-Error-Message", ""))
    if status == 401 and ("invalid" in said.lower() or (_token() and isinstance(error, errors.GatedRepoError))):
        return MissingRequirementError(
            f"the hub does not know the token that is set (HF_TOKEN, or `hf auth login`), asked for {repository}: make "
            f"a new one at {endpoint}/settings/tokens"
        )
    if isinstance(error, errors.GatedRepoError) or (gated and status in (401, 403)):
        if _token():
            return MissingRequirementError(
                f"{repository} is gated, and the account of your token has no access: accept the conditions at {page} "
                "with that account (a fine-grained token also needs the right to read gated repositories)"
            )
        return MissingRequirementError(
            f"{repository} is gated: accept the conditions at {page}, make a token at {endpoint}/settings/tokens, and "
            "set HF_TOKEN to it (or run `hf auth login`)"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        what = "repository" if kind == "model" else "dataset"
        return InputError(
            f"there is no {what} {repository} on {endpoint}, or it is private: check `hub` in the card; for a private "
            "one set HF_TOKEN to a token that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{repository} has no revision {revision!r}: see {page}/commits/main, and correct the card")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"no space left on the disk of the hub's cache ({hub_cache()}) for {repository}: free "
            "some, or set HF_HOME to a larger disk, and run the same command again"
        )
    if isinstance(error, PermissionError):
        return StoreError(
            f"{error.filename or hub_cache()} can't be written, fetching {repository}: set HF_HOME "
            "to a folder of your own"
        )
    return MissingRequirementError(
        f"{repository} can't be fetched from {endpoint} ({_reason(error, status)}): check the network and run the same "
        f"command again (what was fetched is kept), or {_by_hand(repository, kind)}"
    )


def _reason(error: BaseException, status: int | None) -> str:
    """The first line of what the library says, in which no token and no password of a proxy may stand."""
    if status is not None:
        return f"the hub answered {status}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if token := _token():
        text = text.replace(token, "***")
    return _without_password(text)[:200]


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()
