"""Sizes of a system inside its measuring process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from diarbench.execute.messages import Order
from diarbench.files import size_of
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks, count_system
from diarbench.types import Audio


def count_all(
    adapter_class: type, adapter: Any, order: Order, audio: Sequence[Audio], diarize: Callable[[Audio], object]
) -> dict[str, Any]:
    """Sizes of the networks; of an adapter that is built, also what one pass over the recordings multiplies.

    Raises AdapterError where the adapter tells wrong things of its networks.
    """
    networks = build_networks(adapter_class, order.options)
    modules = adapter.modules() if adapter is not None and hasattr(adapter, "modules") else None
    weight_bytes = sum(size_of(path) for path in order.weights.values()) if order.weights else None
    size = count_system(modules, networks, weight_bytes)
    found: dict[str, Any] = {
        "complexity": asdict(size) if size is not None else None,
        "pipeline_macs": None,
        "pipeline_problem": None,
        "seconds": sum(part.duration for part in audio),
    }
    if modules and audio:
        recorder, counter = CallRecorder(modules), PipelineCounter(modules, networks)
        totals: list[int | None] = []
        for part in audio:
            with recorder.recording() as calls:
                diarize(part)
            counted = counter.count(calls)
            totals.append(counted.total)
            found["pipeline_problem"] = counted.problem or found["pipeline_problem"]
        known = [total for total in totals if total is not None]
        found["pipeline_macs"] = sum(known) if len(known) == len(totals) else None
    return found
