"""Energy counters of the hardware: NVML's on NVIDIA GPUs (since Volta), RAPL's on CPUs that have it; no estimates."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Reads one counter. `source` is None where there is none, and then nothing is ever said.

    A counter sees its whole device: idle power and other programs are in it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.source: str | None = None
        if device == "cuda" and _gpu_joules() is not None:
            self.source = "nvml"
        elif device == "cpu" and _packages():
            self.source = "rapl"

    def read(self) -> float | None:
        """Joules since some moment before; None without a counter."""
        if self.source == "nvml":
            return _gpu_joules()
        if self.source == "rapl":
            return _package_joules()
        return None

    def since(self, before: float | None) -> float | None:
        """Joules since `before`; None where a counter is missing or began anew meanwhile."""
        now = self.read()
        return now - before if now is not None and before is not None and now >= before else None


def _gpu_joules() -> float | None:
    """Of the GPU that is used: the first that is visible to CUDA."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001  NVML's own error class is only there if the import succeeded
        return None
    try:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        by_uuid = first.startswith("GPU-")
        handle = (
            pynvml.nvmlDeviceGetHandleByUUID(first)
            if by_uuid
            else pynvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)
        )
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000.0
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _packages() -> list[Path]:
    """Counters of whole processor packages that may be read (only root may, on most systems)."""
    found = []
    for folder in sorted(_POWERCAP.glob("intel-rapl:[0-9]*")):
        if folder.name.count(":") == 1:
            with contextlib.suppress(OSError, ValueError):
                int((folder / "energy_uj").read_text())
                found.append(folder / "energy_uj")
    return found


def _package_joules() -> float | None:
    try:
        return sum(int(path.read_text()) for path in _packages()) / 1e6
    except (OSError, ValueError):
        return None
