"""What a session found of a system, in the keys of docs/measuring.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from diarbench.measure.ratios import Ratio, amdahl_bound, verdict
from diarbench.types import Seconds

if TYPE_CHECKING:
    from diarbench.bench.session import Measured

HOUR = 3600.0  # s


def system_json(known: Measured, device: str, pipeline: Mapping[str, Any] | None) -> dict[str, Any]:
    """All of one system; what was not measured is null."""
    spec, counts = known.prepared.spec, known.counts or {}
    card = spec.card
    size: Mapping[str, Any] = counts.get("complexity") or {}
    held: Mapping[str, Mapping[str, int]] = size.get("held") or {}
    return {
        "title": card.title,
        "error": known.error,
        "identity": dict(known.prepared.identity),
        "compression": dict(card.compression),
        "parameters": size.get("parameters"),
        "encoder_parameters": size.get("encoder_parameters"),
        "bytes": {
            "files": size.get("weight_bytes"),
            "held": sum(part["bytes"] for part in held.values()) if held else None,
            "by_type": {kind: dict(part) for kind, part in held.items()},
        },
        "count_problem": counts.get("problem") or counts.get("pipeline_problem"),
        "macs": macs_json(size, counts.get("pipeline_macs"), counts.get("seconds")),
        "parts": parts_json(size),
        "stages": stages_json(known, size),
        "speed": {device: {**_loading(known), **(pipeline or _NOT_TIMED), "encoder": known.encoder}},
        "memory": memory_json(known),
        "energy": energy_json(known, pipeline),
        "latency": known.latency,
    }


_NOT_TIMED: Mapping[str, Any] = {"rtf": None, "inverse": None, "first": None, "warm": [], "speedup": None}


def pipeline_facts(known: Measured, seconds: Seconds, ratio: Ratio | None, floor: float | None) -> dict[str, Any]:
    """Speed of the whole system over `seconds` of audio."""
    if not known.warm or seconds <= 0:
        return {**_NOT_TIMED, "first": known.first}
    wall = median(known.warm)
    return {
        "rtf": wall / seconds,
        "inverse": seconds / wall if wall > 0 else None,
        "first": known.first,
        "warm": known.warm,
        "speedup": speedup_json(ratio, floor),
    }


def encoder_row(
    batch: int,
    window: Seconds,
    walls: Sequence[Seconds] | None,
    ratio: Ratio | None,
    floor: float | None,
    error: str | None,
) -> dict[str, Any]:
    """Speed of the encoder alone at one batch size."""
    wall = median(walls) if walls else None
    return {
        "batch": batch,
        "window": window,
        "wall": wall,
        "rtf": wall / (batch * window) if wall is not None else None,
        "speedup": speedup_json(ratio, floor) if wall is not None else None,
        "error": error if wall is None else None,
    }


def speedup_json(ratio: Ratio | None, floor: float | None) -> dict[str, Any] | None:
    """A ratio with what may be said of it; without a control, nothing may."""
    if ratio is None:
        return None
    return {**ratio._asdict(), "verdict": verdict(ratio, floor) if floor is not None else None}


def macs_json(size: Mapping[str, Any], pipeline: int | None, seconds: Seconds | None) -> dict[str, Any]:
    """Multiply-accumulates with three inputs: one second, the encoder's own window, the whole system as it ran."""
    window, macs = size.get("encoder_window"), size.get("encoder_macs_window")
    return {
        "encoder_1s": size.get("encoder_macs_1s"),
        "window_per_s": macs / window if macs is not None and window else None,
        "window": window,
        "pipeline_per_s": pipeline / seconds if pipeline is not None and seconds else None,
    }


def parts_json(size: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and MACs on one second of each part of each network: {"CNN": …}; with the stage before where two
    networks have a part of the same name."""
    found: dict[str, Any] = {}
    stages: Mapping[str, Any] = size.get("stages") or {}
    names = [name for stage in stages.values() for name in stage["parts"]]
    for stage_name, stage in stages.items():
        for name, part in stage["parts"].items():
            found[name if names.count(name) == 1 else f"{stage_name}: {name}"] = dict(part)
    return found


def stages_json(known: Measured, size: Mapping[str, Any]) -> dict[str, Any]:
    """By stage: time per call, share of it, what the whole would gain if it cost nothing; and its network's size."""
    networks: Mapping[str, Any] = size.get("stages") or {}
    total = sum(known.warm) * known.called / len(known.warm) if known.warm else 0.0
    found = {}
    for name in [*known.stages, *(name for name in networks if name not in known.stages)]:
        seconds, network = known.stages.get(name), networks.get(name)
        timed = seconds is not None and total > 0
        share = min(1.0, seconds / total) if seconds is not None and timed else None
        found[name] = {
            "seconds": seconds / known.called if seconds is not None and timed else None,
            "share": share,
            "bound": amdahl_bound(share) if share is not None else None,
            "parameters": network["parameters"] if network else None,
            "macs_1s": network["macs_1s"] if network else None,
        }
    return found


def memory_json(known: Measured) -> dict[str, Any] | None:
    """Peaks by length, and growth per hour of audio beyond the signal's own bytes."""
    if not known.memory:
        return None
    rows = [
        {key: row.get(key) for key in ("minutes", "resident", "working", "signal", "cuda", "wall", "error")}
        for row in known.memory
    ]
    return {
        "loaded": known.load.get("resident"),
        "loaded_cuda": known.load.get("cuda"),
        "lengths": rows,
        "growth_per_hour": {"resident": _growth(rows, "working"), "cuda": _growth(rows, "cuda")},
    }


def _growth(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Bytes per hour between the shortest and the longest recording."""
    known = sorted((row["minutes"], row[key]) for row in rows if row[key] is not None)
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    (short, least), (long, most) = known[0], known[-1]
    return float((most - least) / (long - short) * 60.0)


def energy_json(known: Measured, pipeline: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Joules per hour of audio by the hardware's own counter, which sees the whole device; null without one."""
    source = known.load.get("meter")
    if source is None or not known.metered or not pipeline or not pipeline["rtf"]:
        return None
    seconds = median(known.warm) / pipeline["rtf"]
    return {"joules_per_hour": known.joules / (known.metered * seconds) * HOUR, "source": source}


def _loading(known: Measured) -> dict[str, Any]:
    return {key: known.load.get(key) for key in ("import", "load", "software", "settings")}
