"""Parameters of a system's networks, counted from the modules that its adapter exposes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diarbench.types import Complexity


def count_modules(modules: Mapping[str, Any] | None, weight_bytes: int | None) -> Complexity | None:
    """Parameters in all and by stage, and how many of them are not zero; None where there is nothing to count.

    `modules` maps a stage's name to a torch module. A parameter that two modules share counts once, in the first.
    """
    if modules is None:
        return Complexity(None, None, {}, weight_bytes) if weight_bytes is not None else None
    seen: set[int] = set()
    by_stage: dict[str, int] = {}
    nonzero = 0
    for stage, module in modules.items():
        by_stage[stage] = 0
        for parameter in module.parameters():
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            by_stage[stage] += int(parameter.numel())
            nonzero += int(parameter.detach().count_nonzero())
    return Complexity(sum(by_stage.values()), nonzero, by_stage, weight_bytes)
