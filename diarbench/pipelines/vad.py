"""Speech spans from the probabilities of a voice activity detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diarbench.rttm import merge_spans
from diarbench.types import Seconds, Spans


@dataclass(frozen=True)
class SpeechRules:
    """How probabilities become speech; the defaults were tuned for Silero VAD (systems/silero-ge2e/tune.py).

    Raises ValueError for thresholds outside 0 to 1, an offset above the onset, or negative times.
    """

    onset: float = 0.3  # speech begins with a chunk above this
    offset: float = 0.15  # and lasts until one falls below this
    min_off: Seconds = 0.3  # shorter gaps are closed
    min_on: Seconds = 0.0  # then shorter speech is dropped
    pad: Seconds = 0.05  # then each end is moved outwards by this much

    def __post_init__(self) -> None:
        if not 0.0 <= self.offset <= self.onset <= 1.0:
            raise ValueError(f"0 <= offset <= onset <= 1 must hold; got onset {self.onset}, offset {self.offset}")
        for name in ("min_off", "min_on", "pad"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a time (s), 0 or more; got {getattr(self, name)}")


def speech_spans(probabilities: NDArray[np.floating], rules: SpeechRules, *, hop: Seconds, duration: Seconds) -> Spans:
    """Where speech is, as sorted spans inside [0, duration] that don't touch.

    `probabilities` (chunks,) holds one value per `hop` seconds. A chunk between the two thresholds goes on with what
    was before it (hysteresis), silence at the start:

        probability   .1 .2 .6 .4 .6 .4 .2 .1       onset .5, offset .3
        speech              |==========|
    """
    decided = np.concatenate([[-1], np.flatnonzero((probabilities > rules.onset) | (probabilities < rules.offset))])
    last = decided[np.searchsorted(decided, np.arange(len(probabilities)), side="right") - 1]
    speech = np.where(last >= 0, probabilities[last], 0.0) > rules.onset if len(probabilities) else np.zeros(0, bool)
    edges = np.flatnonzero(np.diff(speech, prepend=False, append=False))

    closed: list[tuple[Seconds, Seconds]] = []
    for start, end in (edges.reshape(-1, 2) * hop).tolist():
        if closed and start - closed[-1][1] < rules.min_off:
            closed[-1] = (closed[-1][0], end)
        else:
            closed.append((start, end))
    return merge_spans(
        (max(0.0, start - rules.pad), min(duration, end + rules.pad))
        for start, end in closed
        if end - start >= rules.min_on
    )
