"""The machine and the software that a run happened on: facts to print, never to score with."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import diarbench
from diarbench.files import digest_of

# What changes speed or numbers and is set from outside.
_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "KMP_AFFINITY", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF",
)  # fmt: skip


def fingerprint() -> dict[str, Any]:
    """CPU, cores, memory, GPUs with driver, operating system. No host or user name."""
    import psutil

    return {
        "cpu": _cpu_model(),
        "cpu_generation": _cpu_generation(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 0,
        "logical_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


def machine_name(facts: dict[str, Any]) -> str:
    """A folder name from the hardware alone: the same on machines that are alike, free of host names.

    >>> machine_name({"cpu": "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "logical_cores": 4,
    ...               "memory_bytes": 16 << 30, "gpus": []})
    'intel-xeon-gold-6248-4c-16g-1fdcff'
    """
    memory = _nominal_memory(facts["memory_bytes"])
    plain = re.sub(r"\((R|TM)\)|CPU|Processor|@.*|\d+-Core", " ", facts["cpu"], flags=re.IGNORECASE)
    words = re.findall(r"[a-z0-9]+", plain.lower())[:5]
    gpu = [re.sub(r"[^a-z0-9]+", "-", card["name"].lower()).strip("-") for card in facts["gpus"]]
    parts = [*words, f"{facts['logical_cores']}c", f"{memory}g"]
    if gpu:
        parts.append(gpu[0] if len(gpu) == 1 else f"{len(gpu)}x-{gpu[0]}")
    # Virtual machines hide the model: two of one name had other INT8 kernels, and half of the speed.
    generation = [facts["cpu_generation"]] if facts.get("cpu_generation") else []
    identity = digest_of([facts["cpu"], facts["logical_cores"], memory, gpu, *generation])
    return "-".join([*parts, identity[:6]])


def gpus() -> list[dict[str, Any]]:
    """NVIDIA GPUs by NVML, without importing torch; empty where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001  NVML's own error class is only there if the import succeeded
        return []
    try:
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found.append(
                {
                    "name": str(pynvml.nvmlDeviceGetName(handle)),
                    "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                    "driver": str(pynvml.nvmlSystemGetDriverVersion()),
                }
            )
        return found
    finally:
        pynvml.nvmlShutdown()


def software(distributions: list[str]) -> dict[str, Any]:
    """Versions of Python, diarbench (with its commit, in a checkout) and the distributions named; what is not
    installed is left out."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "diarbench": diarbench.__version__,
        "commit": _commit(),
        "distributions": versions,
    }


def settings() -> dict[str, Any]:
    """Flags that change speed or numbers, as they are in this process now; torch is asked only if it is loaded."""
    found: dict[str, Any] = {"environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ}}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = {
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
            "tf32_cudnn": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cuda": torch.version.cuda,
            "mkldnn": torch.backends.mkldnn.is_available(),
        }
    return found


def load_average() -> list[float] | None:
    """Running processes, averaged over 1, 5 and 15 minutes; None where the system doesn't say."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def peak_memory() -> int | None:
    """Largest resident memory of this process so far (bytes); None where the system doesn't say."""
    try:
        # Not getrusage, where it can be helped: a process starts there with the peak of the one that started it.
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _nominal_memory(size: int) -> int:
    """What was bought (GiB): the kernel keeps some for itself, and another kernel another part.

    >>> [_nominal_memory(int(gib * (1 << 30))) for gib in (7.7, 15.4, 15.6, 62.7, 251.6, 503.1, 502.9)]
    [8, 16, 16, 64, 256, 512, 512]
    """
    gib = max(size / (1 << 30), 1.0)
    step = 2 ** max(0, math.floor(math.log2(gib)) - 4)
    return int(math.ceil(gib / step) * step)


def _cpu_model() -> str:
    return _first_cpu().get("model name") or platform.processor() or platform.machine() or "unknown"


def _cpu_generation() -> str | None:
    """What the processor is to software, such as "family 25, model 17"; None where the system doesn't say."""
    said = _first_cpu()
    x86, arm = ("cpu family", "model"), ("cpu implementer", "cpu part")
    for names in (x86, arm):
        if all(said.get(name) for name in names):
            return ", ".join(f"{name.removeprefix('cpu ')} {said[name]}" for name in names)
    return None


def _first_cpu() -> dict[str, str]:
    """What Linux says of the first processor, names in small letters; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().strip().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _commit() -> str | None:
    """The commit of the checkout that diarbench runs from, "+changes" where files differ; None in a wheel."""
    folder = Path(diarbench.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        run = {"cwd": folder, "capture_output": True, "text": True, "timeout": 10}
        head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, **run).stdout.strip()  # type: ignore[call-overload]  # noqa: S607
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], check=True, **run).stdout.strip()  # type: ignore[call-overload]  # noqa: S607
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+changes" if changes else str(head)
