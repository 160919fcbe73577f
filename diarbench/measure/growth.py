"""MACs of a network by the sizes in its calls: counted at some sizes, and computed in between where they grow evenly.

Nearly every recording ends with a batch of another size. Of most networks the MACs are

    a + b·n            for n items in a batch
    a + b·n + c·t + d·n·t   for n items of t steps each, in recurrent layers

exactly, in whole numbers. Two counts give `a` and `b`; they prove nothing. So the rule is tried at more sizes, small
and large, odd and even, near the ends of a range and inside it, and holds only where all of them are met exactly, and
only within that range. Attention over what grows, or padding to a multiple, breaks it at the first of these. What is
left is an assumption: that a network which keeps the rule at all sizes tried keeps it at the sizes between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from diarbench.measure.shapes import Form, Shape, Sizes, joined, split

Axis = frozenset[int]  # positions in Sizes that grow together

_SEEN = 3  # sizes that were called before a rule is looked for: most systems have one or two
_ATTEMPTS = 4  # at rules, for each form of a call
_COMPARED = 16  # calls of a form, the latest, among which is looked for what grows


class Growth:
    """MACs of the calls of one network. `count` counts one; it may raise anything."""

    def __init__(self, count: Callable[[Shape], int]) -> None:
        self._count = count
        self._forms: dict[Any, _Calls] = {}

    def macs(self, shape: Shape) -> int:
        """MACs of a call. Raises whatever counting raises."""
        form, sizes = split(shape)
        return self._calls(form).macs(sizes)

    def learn(self, one: Shape, others: Sequence[tuple[Shape, int]]) -> bool:
        """Look for a rule ahead of the first call, from one call and others like it in which one thing grew.

        True where there is one.

        With each of `others` comes the number up to which the rule shall hold, or that of the one call if that is more.
        """
        form, sizes = split(one)
        axes: dict[Axis, int] = {}
        for other, top in others:
            grown = split(other)
            axis = what_grew(sizes, grown.sizes) if grown.form == form else None
            if axis is not None:
                axes.setdefault(axis, max(top, sizes[min(axis)]))
        calls = self._calls(form)
        for several in ([*axes], *([axis] for axis in axes)):
            if several and not _overlap(several) and calls.look(several, sizes, [axes[axis] for axis in several]):
                return True
        return False

    def _calls(self, form: Any) -> _Calls:
        if form not in self._forms:
            self._forms[form] = _Calls(lambda sizes: self._count(joined(Form(form, sizes))))
        return self._forms[form]


def what_grew(first: Sizes, second: Sizes) -> Axis | None:
    """Where two calls of one form differ, if it is in one number that stands in several places; else None."""
    changed = {(before, after) for before, after in zip(first, second, strict=True) if before != after}
    if len(changed) != 1 or 0 in next(iter(changed)):
        return None
    return frozenset(place for place, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])


@dataclass
class _Rule:
    """MACs that grow evenly: where, up to which sizes, and how much. `steps` are differences by axes that grow by one:
    {(0, 0): at 1 and 1, (1, 0): for one more of the first, …, (1, 1): for one more of both, beside these}."""

    axes: Sequence[Axis]
    others: Sizes  # with 1 in the places of the axes
    tops: tuple[int, ...]
    steps: Mapping[tuple[int, ...], int] = field(default_factory=dict)

    def place(self, sizes: Sizes) -> tuple[int, ...] | None:
        """The number of each axis in a call; None where the call differs in more than these."""
        found: list[int] = []
        for axis in self.axes:
            numbers = {sizes[place] for place in axis}
            if len(numbers) != 1 or 0 in numbers:
                return None
            found += numbers
        return tuple(found) if self.sizes([1] * len(found)) == self._at(sizes, [1] * len(found)) else None

    def sizes(self, numbers: Sequence[int]) -> Sizes:
        """The call in which the axes have these numbers."""
        return self._at(self.others, numbers)

    def macs(self, numbers: Sequence[int]) -> int:
        """MACs by the rule."""
        return sum(
            step * prod(number - 1 for number, grows in zip(numbers, corner, strict=True) if grows)
            for corner, step in self.steps.items()
        )

    def covers(self, numbers: Sequence[int]) -> bool:
        """Whether the rule was tried up to there."""
        return all(number <= top for number, top in zip(numbers, self.tops, strict=True))

    def trials(self) -> Iterator[Sizes]:
        """Calls at which it has to hold: all combinations of small numbers, of some inside, and of the largest."""
        for numbers in product(*({3, 5, round(0.62 * top), top - 1, top} & {*range(1, top + 1)} for top in self.tops)):
            yield self.sizes(numbers)

    def _at(self, sizes: Sizes, numbers: Sequence[int]) -> Sizes:
        found = list(sizes)
        for axis, number in zip(self.axes, numbers, strict=True):
            for place in axis:
                found[place] = number
        return tuple(found)


class _Calls:
    """What is known of the calls of one form."""

    def __init__(self, count: Callable[[Sizes], int]) -> None:
        self._count = count
        self._known: dict[Sizes, int] = {}
        self._called: list[Sizes] = []  # of these, what was called, the latest last
        self._rules: list[_Rule] = []
        self._tried: set[tuple[Axis, Sizes]] = set()

    def macs(self, sizes: Sizes) -> int:
        """By count or by rule."""
        if sizes in self._known:
            return self._known[sizes]
        for rule in self._rules:
            numbers = rule.place(sizes)
            if numbers is not None and rule.covers(numbers):
                return rule.macs(numbers)
        found = self._counted(sizes)
        self._widen(sizes)
        self._look_among_the_called(sizes)
        self._called = [*self._called[1 - _COMPARED :], sizes]
        return found

    def look(self, axes: Sequence[Axis], sizes: Sizes, tops: Sequence[int]) -> bool:
        """Whether there is a rule for what differs from a call in nothing but these axes; it is kept."""
        rule = _Rule(axes, sizes, tuple(map(_power_of_two, tops)))
        ones = [1] * len(axes)
        rule = _Rule(axes, rule.sizes(ones), rule.tops)
        try:
            steps = {corner: self._counted(rule.sizes([1 + grows for grows in corner])) for corner in _corners(axes)}
        except Exception:  # noqa: BLE001  a network may refuse small sizes in any way
            return False
        for axis in range(len(axes)):  # from values to differences, one axis after the other
            for corner in [corner for corner in steps if corner[axis]]:
                steps[corner] -= steps[(*corner[:axis], 0, *corner[axis + 1 :])]
        rule = _Rule(axes, rule.others, rule.tops, steps)
        if self._holds(rule):
            self._rules.append(rule)
        return rule in self._rules

    def _widen(self, sizes: Sizes) -> None:
        """Rules for a call that lies beyond them: tried further out, or given up."""
        for rule in list(self._rules):
            numbers = rule.place(sizes)
            if numbers is not None:
                self._rules.remove(rule)
                tops = tuple(max(top, _power_of_two(number)) for top, number in zip(rule.tops, numbers, strict=True))
                wider = _Rule(rule.axes, rule.others, tops, rule.steps)
                if self._holds(wider):
                    self._rules.append(wider)

    def _look_among_the_called(self, sizes: Sizes) -> None:
        """A rule for what differs between this call and earlier ones, once that has been seen often enough."""
        grew: dict[Axis, list[Sizes]] = {}
        for earlier in self._called:
            axis = what_grew(earlier, sizes)
            if axis is not None:
                grew.setdefault(axis, []).append(earlier)
        for axis, seen in grew.items():
            fixed = tuple(0 if place in axis else size for place, size in enumerate(sizes))
            if len(seen) + 1 >= _SEEN and (axis, fixed) not in self._tried and len(self._tried) < _ATTEMPTS:
                self._tried.add((axis, fixed))
                place = min(axis)
                self.look([axis], sizes, [max(one[place] for one in (*seen, sizes))])

    def _holds(self, rule: _Rule) -> bool:
        seen = ((sizes, rule.place(sizes)) for sizes in [*self._known])
        if any(numbers is not None and rule.macs(numbers) != self._known[sizes] for sizes, numbers in seen):
            return False
        try:
            return all(self._counted(sizes) == rule.macs(rule.place(sizes) or ()) for sizes in rule.trials())
        except Exception:  # noqa: BLE001  as above; time that has run out is such an exception too
            return False

    def _counted(self, sizes: Sizes) -> int:
        if sizes not in self._known:
            self._known[sizes] = self._count(sizes)
        return self._known[sizes]


def _corners(axes: Sequence[Axis]) -> Iterator[tuple[int, ...]]:
    return product((0, 1), repeat=len(axes))


def _overlap(axes: Sequence[Axis]) -> bool:
    return len(frozenset[int]().union(*axes)) < sum(map(len, axes))


def _power_of_two(number: int) -> int:
    """The next power of two, itself included."""
    return 1 << (number - 1).bit_length()
