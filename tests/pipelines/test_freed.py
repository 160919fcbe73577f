"""Freed memory goes back, where the C library can do that."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import psutil
import pytest

from diarbench.pipelines import freed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can let go of freed memory")
def test_a_heap_of_holes_is_given_back():
    pieces = [np.ones(8000, dtype=np.uint8) for _ in range(20_000)]  # 160 MB in pieces too small for a mapping each
    del pieces[::2], pieces[: len(pieces) // 2]
    process = psutil.Process()
    before = process.memory_info().rss
    freed.give_back_freed()
    assert before - process.memory_info().rss > 50e6
    assert len(pieces)


def test_elsewhere_nothing_happens(monkeypatch):
    def no_such_library(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", no_such_library)
    freed._trim.cache_clear()
    try:
        freed.give_back_freed()
    finally:
        freed._trim.cache_clear()
