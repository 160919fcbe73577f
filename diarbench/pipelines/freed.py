"""Memory that was freed and that the process still holds, given back to the operating system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any


def give_back_freed() -> None:
    """Let go of freed memory where the C library can (glibc); elsewhere nothing happens.

    After a network's turn, tens of megabytes of its intermediate results stay in the heap, below some small piece that
    is still in use; the next network's come on top of them. It takes a few milliseconds.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], Any] | None:
    try:
        found: Callable[[int], Any] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another operating system's loader
        return None
    return found
