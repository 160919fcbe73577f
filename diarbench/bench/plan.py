"""What a measuring session is to do, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from diarbench.types import Recording, Seconds

if TYPE_CHECKING:
    from diarbench.plan import Device, Prepared

LARGEST = "max"  # in place of a batch size: as large as the GPU's memory takes

Order = Literal["interleaved", "block"]


@dataclass(frozen=True)
class Wanted:
    """One session: one device, one number of threads."""

    systems: Sequence[Prepared]
    baseline: str  # the name of one of them
    device: Device
    threads: int
    dataset: str
    digest: str  # of the dataset
    recordings: Sequence[Recording]  # empty: the encoders alone
    rounds: int = 15
    turn: Seconds = 0.5  # that a system works at least in each round, so that no single interruption makes its time
    batches: Sequence[int | str] = (1,)  # of windows, for the encoders alone; numbers, or LARGEST
    window: Seconds = 8.0  # of the encoders' inputs
    minutes: Sequence[float] = ()  # lengths at which memory is measured
    weights: bool = True  # without: encoders with random weights, and nothing else
    order: Order = "interleaved"
    seed: int = 0
