"""Memory of this process: now, and the most it held since a moment that can be chosen where the kernel lets us."""

from __future__ import annotations

import sys
from pathlib import Path

from diarbench.measure.machine import peak_memory

_CLEAR = Path("/proc/self/clear_refs")


def resident() -> int:
    """Resident memory now (bytes)."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def forget_peak() -> bool:
    """Let the peak begin anew, for resident and for CUDA memory. False where the kernel can't: then `peak_memory` still
    holds whatever loading took."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        # Linux: 5 resets the peak resident set size (proc_pid_clear_refs(5)).
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_resident() -> int | None:
    """The most that was resident since `forget_peak`, or since the process began (bytes)."""
    return peak_memory()


def peak_cuda() -> int | None:
    """The most CUDA memory that tensors held since `forget_peak` (bytes); None without a GPU in use."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())
