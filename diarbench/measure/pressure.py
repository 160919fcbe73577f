"""How busy the machine is with other things while something is timed: two looks, and what lies between them.

CPU time over wall time does not show it: OpenMP threads that spin while they wait look busy themselves. The kernel's
pressure figures do (https://docs.kernel.org/accounting/psi.html), and so does what the processors did in all, less
what our own processes did.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diarbench.measure.machine import gpus, load_average

# Above these, timings are marked. Two looks at an idle machine stay well below: its own services take a few hundredths
# of a core.
MOST_PRESSURE = 5.0  # % of time in which some task waited for a processor
MOST_OTHERS = 0.10  # cores that other programs kept busy, on average
MOST_STEAL = 0.02  # of the processors' time, taken by the host of a virtual machine

_PRESSURE = Path("/proc/pressure/cpu")


@dataclass(frozen=True, slots=True)
class Look:
    """The machine at one moment. Times count from some moment before."""

    at: float  # s
    pressure: float | None  # % of the last ten seconds in which some task waited; None where the kernel doesn't say
    waited: float | None  # s in which some task waited
    busy: float  # CPU time of everything (s)
    steal: float  # CPU time that a virtual machine was denied (s)
    own: float  # CPU time of this process and all that it started (s)
    load: list[float] | None  # running tasks, averaged over 1, 5 and 15 minutes
    clocks: dict[str, Any]  # MHz

    def facts(self) -> dict[str, Any]:
        """As it is stored."""
        return {"pressure_avg10": self.pressure, "load_average": self.load, "clocks": self.clocks}


@dataclass(frozen=True, slots=True)
class Between:
    """What happened between two looks."""

    seconds: float
    pressure: float | None  # % of the time in which some task waited for a processor
    others: float  # cores that other programs kept busy, on average
    steal: float  # share of the processors' time

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why timings taken meanwhile are to be marked; empty on a quiet machine."""
        found = []
        if self.others > MOST_OTHERS:
            found.append(f"other programs kept {self.others:.2f} cores busy")
        if self.pressure is not None and self.pressure > MOST_PRESSURE:
            found.append(f"some task waited for a processor {self.pressure:.0f} % of the time")
        if self.steal > MOST_STEAL:
            found.append(f"the host took {self.steal:.0%} of the processors' time")
        return tuple(found)


def look() -> Look:
    """The machine now. Takes some milliseconds: not while something is timed."""
    import psutil

    times = psutil.cpu_times()
    # Guests are not asked for: Linux counts them in user time already.
    busy = sum(getattr(times, name, 0.0) for name in ("user", "system", "nice", "irq", "softirq"))
    steal = getattr(times, "steal", 0.0)
    pressure, waited = _pressure()
    return Look(time.monotonic(), pressure, waited, busy, steal, _own_time(), load_average(), _clocks())


def between(before: Look, after: Look) -> Between:
    """What happened from one look to the next."""
    import psutil

    seconds = max(after.at - before.at, 1e-9)
    pressure = None
    if before.waited is not None and after.waited is not None:
        pressure = 100.0 * (after.waited - before.waited) / seconds
    others = max(0.0, (after.busy - before.busy) - (after.own - before.own)) / seconds
    steal = (after.steal - before.steal) / seconds / (psutil.cpu_count() or 1)
    return Between(seconds, pressure, others, steal)


def worst_of(parts: Sequence[Between]) -> Between | None:
    """The highest of each figure over several stretches of time; None without any."""
    if not parts:
        return None
    told = [part.pressure for part in parts if part.pressure is not None]
    return Between(
        sum(part.seconds for part in parts),
        max(told, default=None),
        max(part.others for part in parts),
        max(part.steal for part in parts),
    )


def _pressure() -> tuple[float | None, float | None]:
    with contextlib.suppress(OSError):
        found = re.search(r"^some avg10=([\d.]+) .*total=(\d+)", _PRESSURE.read_text(), re.MULTILINE)
        if found:
            return float(found[1]), int(found[2]) / 1e6
    return None, None


def _own_time() -> float:
    """CPU time of this process, those that it started, and those of them that have ended (s)."""
    import psutil

    this = psutil.Process()
    total = 0.0
    for process in [this, *this.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def _clocks() -> dict[str, Any]:
    """Clocks of the CPU (mean over cores) and of each GPU, where they are told (MHz)."""
    import psutil

    found: dict[str, Any] = {"cpu": None, "gpus": []}
    with contextlib.suppress(OSError, NotImplementedError, AttributeError):
        clock = psutil.cpu_freq()
        found["cpu"] = round(clock.current) if clock is not None else None
    if gpus():
        import pynvml

        pynvml.nvmlInit()
        try:
            for index in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                found["gpus"].append(
                    {
                        "sm": _asked(lambda h=handle: pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_SM)),
                        "memory": _asked(lambda h=handle: pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_MEM)),
                        "power_limit_w": _asked(lambda h=handle: pynvml.nvmlDeviceGetEnforcedPowerLimit(h) / 1000),
                        "utilisation": _asked(lambda h=handle: pynvml.nvmlDeviceGetUtilizationRates(h).gpu),
                        "slowed_by": _asked(lambda h=handle: pynvml.nvmlDeviceGetCurrentClocksEventReasons(h)),
                    }
                )
        finally:
            pynvml.nvmlShutdown()
    return found


def _asked(question: Any) -> Any:
    """What NVML answers; None where a card or driver doesn't know the question."""
    import pynvml

    try:
        return question()
    except (pynvml.NVMLError, AttributeError):
        return None
