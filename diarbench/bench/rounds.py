"""The order in which systems take their turns, and how often each is called in a turn."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from diarbench.types import Seconds

_MOST_CALLS = 200


def calls_per_turn(warm: Seconds, turn: Seconds) -> int:
    """How many calls of that length fill a turn.

    >>> calls_per_turn(2.0, 0.5), calls_per_turn(0.1, 0.5), calls_per_turn(0.0, 0.5)
    (1, 5, 200)
    """
    return max(1, math.ceil(min(_MOST_CALLS, turn / warm))) if warm > 0 else _MOST_CALLS


def take_turns(
    names: Sequence[str], once: Callable[[str], Seconds | None], *, rounds: int, seed: int, interleaved: bool = True
) -> dict[str, list[Seconds]]:
    """Times by name, one per round, of those that did all rounds.

    `once` takes one turn and returns its time, or None where that system is out from now on. Interleaved, each round
    has one turn of each system, in an order drawn anew; else each takes all its turns in a row, as benchmarks often
    do, and drift of the machine falls on some of them only.
    """
    times: dict[str, list[Seconds]] = {name: [] for name in names}
    draw = random.Random(seed)  # noqa: S311  an order, no secret

    def turn(name: str) -> None:
        if name in times:
            wall = once(name)
            if wall is None:
                del times[name]
            else:
                times[name].append(wall)

    if interleaved:
        for _ in range(rounds):
            for name in draw.sample(list(names), len(names)):
                turn(name)
    else:
        for name in names:
            for _ in range(rounds):
                turn(name)
    return times
