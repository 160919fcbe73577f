"""Which gates survive, so that the smaller WavLM has the size that was asked for: exactly, not in expectation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diarbench.compress.gates import GATED, PerGate, WavLMGates, probability, survivors
from diarbench.compress.objective import Target
from diarbench.compress.sizes import Counts, Size, exact_size, size_by_counts
from diarbench.errors import InputError
from diarbench.nn.structures import Structure

TOLERANCE = 0.01  # of the size asked for
_BISECTIONS = 60
_MOST_SIZES = 2_000_000  # sums that are tried at once; where more are needed, steps are fine
_FARTHEST = 60.0  # a shift of log α that opens or closes all gates


def masks_for(
    gates: WavLMGates,
    target: Target,
    *,
    rule: str = "reference",
    full: Structure | None = None,
    tolerance: float = TOLERANCE,
) -> PerGate:
    """Masks with which surgery makes a model of the target's size: at most that, and less by no more than `tolerance`.

    All log α are shifted by one number until the expected counts of all groups, rounded, give the largest size that is
    not above the target; what is then left is filled with single channels, units and heads that fit, first from
    the group that rounding robbed most. In each group those with the largest log α survive: what was learned
    decides which, and nearly decides how many of each group. With separate targets for the convolutions and the
    Transformer, each has its own shift.

    A survivor's value is what `rule` says (see `gates.deterministic`), and its softened one where that is 0. `full` is
    what the target is a fraction of (by default, the gates' own structure). Raises InputError where the target can't be
    reached, or not within the tolerance because what can be removed is too coarse (see `check_steps`).
    """
    structure = gates.structure
    goals = target.sizes(structure, full, tuple(gates.log_alpha.keys()))
    search = _Search(structure, gates.logits(), target)
    for part in goals:  # "all", or "CNN" and then "Transformer", whose projection depends on the last convolution
        search.settle(part, goals[part])
    found = search.size()
    asked = target.sparsities()
    for part, goal in goals.items():
        # A part with sparsity 0 has all that it can have: a projection is smaller all the same where channels went.
        lowest = (1 - tolerance) * goal if asked[part] else 0
        if not lowest <= found.part(part) <= goal:
            left = f"{found.part(part):,} {target.measure} ({part})"
            raise InputError(f"no choice of gates is within {tolerance:.1%} of {goal:,}: the nearest has {left}")
    return _values(gates, search, rule)


def check_steps(
    structure: Structure,
    target: Target,
    *,
    full: Structure | None = None,
    gated: Sequence[str] = GATED,
    tolerance: float = TOLERANCE,
) -> None:
    """Raises InputError where `masks_for` would refuse, whatever is learned: gates of these kinds are too coarse.

    The Transformer's size is a sum over its layers and the projection, so that all sizes it can have are known, and
    whether one of them is near enough. That of the convolutions is a sum of products, and with hundreds of channels
    nearly any number: where they have gates, targets of the CNN and of the whole pass. So do targets that some choices
    meet and others don't, since which of them gates will learn isn't known: these only `masks_for` can refuse.
    """
    whole = exact_size(full or structure, target.measure, samples=target.samples)
    for part, goal in target.sizes(structure, full, gated).items():
        if not target.sparsities()[part] or ("convolutions" in gated and part != "Transformer"):
            continue
        sizes = _all_sizes(structure, target, part, gated)
        if sizes is None or ((sizes >= (1 - tolerance) * goal) & (sizes <= goal)).any():
            continue
        # Rounded down, so that the size itself is not above the target.
        near = [sizes[sizes < goal].max(), sizes[sizes > goal].min()]
        smaller, larger = (math.floor(1e4 * (1 - size / whole.part(part))) / 1e4 for size in near)
        raise InputError(
            f"gates on {', '.join(gated)} are too coarse: no choice of them is within {tolerance:.1%} of {goal:,} "
            f"{target.measure} ({part}); the nearest targets are {larger} and {smaller}, or say more kinds of gates"
        )


def _all_sizes(structure: Structure, target: Target, part: str, gated: Sequence[str]) -> NDArray[np.int64] | None:
    """What sizes a part can have, whichever gates of its Transformer survive; None where these are too many to tell."""
    layers, full = structure.layers, Counts.of(structure)
    nothing = Counts(full.channels, *([0] * layers for _ in range(5)))

    def size(**counts: Any) -> int:
        given = replace(nothing, **counts)
        found = size_by_counts(structure, given, target.measure, samples=target.samples, scaled=True)
        return int(found.part(part))

    fixed = size()
    choices: list[set[int]] = []  # what each module, and the projection, may add to that
    for layer in range(layers):
        one = np.arange(layers) == layer
        heads, units = (
            range(most + 1) if kind in gated else [most]
            for kind, most in (("heads", full.heads[layer]), ("feed_forward", full.units[layer]))
        )
        attentions = {
            size(attention_layers=one, heads=one * count, attention_left=one * min(count, 1)) - fixed for count in heads
        }
        feed_forwards = {size(feed_forward_layers=one, units=one * count) - fixed for count in units}
        choices.append(attentions | ({0} if "attention_layers" in gated else set()))
        choices.append(feed_forwards | ({0} if "feed_forward_layers" in gated else set()))
    if "convolutions" in gated:
        *others, last = full.channels
        choices.append({size(channels=[*others, count]) - fixed for count in range(1, last + 1)})
    sizes = np.array([fixed])
    for choice in choices:
        if len(sizes) * len(choice) > _MOST_SIZES:
            return None
        sizes = np.unique(sizes[:, None] + np.array(sorted(choice)))
    return sizes


@dataclass
class _Group:
    """Gates that are counted together, best first."""

    kind: str
    index: int  # of the convolution or layer
    logits: Tensor  # (n,), float64
    least: int
    kept: int = 0

    def expected(self, shift: float) -> float:
        """How many there would be, were all log α larger by `shift`."""
        return probability(self.logits + shift).sum().item() if len(self.logits) else 0.0


class _Search:
    """How many gates of each group survive; starts with all of them."""

    def __init__(self, structure: Structure, logits: PerGate, target: Target) -> None:
        self.structure, self.target = structure, target
        logits = logits.map(lambda tensor: tensor.double().cpu())
        self.modules = {
            "heads": logits.attention_layers,
            "feed_forward": logits.feed_forward_layers,
        }
        self.open = {kind: [True] * structure.layers for kind in self.modules}
        self.groups = [
            _Group(kind, index, group, least, len(group))
            for kind, groups, least in (
                ("convolutions", logits.convolutions, 1),
                ("heads", logits.heads, 0),
                ("feed_forward", logits.feed_forward, 0),
            )
            for index, group in enumerate(groups)
        ]

    def settle(self, part: str, goal: int) -> None:
        """Choose for the groups of this part, so that its size comes near to the goal from below."""
        groups = [group for group in self.groups if part in ("all", _part(group.kind))]
        low, high = -_FARTHEST, _FARTHEST
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._shifted(groups, middle).part(part) <= goal else (low, middle)
        self._shifted(groups, low)
        self._fill(groups, low, part, goal)

    def size(self) -> Size[int]:
        """Of the model as it is chosen now."""
        counts: dict[str, list[int]] = {"convolutions": [], "heads": [], "feed_forward": []}
        for group in self.groups:
            counts[group.kind].append(group.kept)
        channels, heads, units = counts.values()
        left = [min(kept, 1) for kept in heads]
        modules = [list(map(int, self.open[kind])) for kind in ("heads", "feed_forward")]
        given = Counts(channels, heads, left, units, *modules)
        return size_by_counts(self.structure, given, self.target.measure, samples=self.target.samples, scaled=True)

    def _shifted(self, groups: list[_Group], shift: float) -> Size[int]:
        for group in groups:
            group.kept = max(group.least, math.floor(group.expected(shift) + 0.5))
            if group.kind in self.modules:
                module = self.modules[group.kind][group.index] + shift
                self.open[group.kind][group.index] = probability(module).item() >= 0.5
                group.kept *= self.open[group.kind][group.index]
        return self.size()

    def _fill(self, groups: list[_Group], shift: float, part: str, goal: int) -> None:
        """Add one by one what still fits, from the group that has least of what was expected of it."""
        candidates = [group for group in groups if self.open.get(group.kind, {group.index: True})[group.index]]
        missing = {id(group): group.expected(shift) - group.kept for group in candidates}
        while candidates:
            group = max(candidates, key=lambda each: missing[id(each)])
            group.kept += 1
            missing[id(group)] -= 1
            if group.kept > len(group.logits) or self.size().part(part) > goal:
                group.kept -= 1
                candidates.remove(group)  # sizes only grow, so it won't fit later either


def _part(kind: str) -> str:
    return "CNN" if kind == "convolutions" else "Transformer"


def _values(gates: WavLMGates, search: _Search, rule: str) -> PerGate:
    """The masks of what was chosen."""
    logits = gates.logits()
    chosen: dict[str, list[Tensor]] = {"convolutions": [], "heads": [], "feed_forward": []}
    for group in search.groups:
        log_alpha = getattr(logits, group.kind)[group.index]
        chosen[group.kind].append(survivors(log_alpha, group.kept, rule))
    channels, heads, units = (tuple(tensors) for tensors in chosen.values())
    attention = survivors(logits.attention_layers, sum(search.open["heads"]), rule)
    feed_forward = survivors(logits.feed_forward_layers, sum(search.open["feed_forward"]), rule)
    return PerGate(channels, heads, units, attention, feed_forward)
