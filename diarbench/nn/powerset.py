"""Which sets of speakers a powerset classifier tells apart, and in which order."""

from __future__ import annotations

import itertools

from diarbench.errors import InputError


def powerset(speakers: int, overlap: int) -> tuple[tuple[int, ...], ...]:
    """The set of speakers that each class stands for: at most `overlap` of them at once, smaller sets first.

    The order of pyannote's `Powerset` (Plaquet and Bredin, "Powerset multi-class cross entropy loss for neural speaker
    diarization", Interspeech 2023), which DiariZen shares. Raises InputError where there is no such set.

    >>> powerset(3, 2)
    ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
    >>> len(powerset(4, 2)), len(powerset(4, 4))
    (11, 16)
    """
    if not 1 <= overlap <= speakers:
        raise InputError(f"of {speakers} speakers, {overlap} can't be the most that speak at once")
    return tuple(chosen for size in range(overlap + 1) for chosen in itertools.combinations(range(speakers), size))
