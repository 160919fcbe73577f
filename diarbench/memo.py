"""What was read from files once, kept in the cache: files that have not changed since need not be read again.

Nothing depends on it: without it, or where it can't be read or written, everything is read anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diarbench.fetch import cache_folder
from diarbench.files import digest_of

# Smaller folders are read in less time than it takes to notice.
WORTHWHILE = 200  # new entries


def recall(folder: Path, salt: str) -> dict[str, Any]:
    """What was kept of a folder; empty where nothing was, or something else than `salt` says how it was made."""
    try:
        value = json.loads(_place(folder, salt).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def keep(folder: Path, salt: str, entries: Mapping[str, Any]) -> None:
    """Keep entries of a folder, in place of those that were kept."""
    place = _place(folder, salt)
    temporary = None
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=place.parent)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(entries, separators=(",", ":")))
        os.replace(temporary, place)
        temporary = None
    if temporary is not None:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()


def _place(folder: Path, salt: str) -> Path:
    return cache_folder() / "results" / f"{digest_of([str(folder.resolve()), salt])[:32]}.json"
