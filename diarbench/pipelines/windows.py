"""Windows that slide over speech, and the turns that their speakers make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diarbench.types import Seconds, Spans, Turns


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows in the order of their starts, each inside one span of speech (or around a very short one)."""

    starts: NDArray[np.float64]  # (windows,), s
    ends: NDArray[np.float64]  # (windows,), s
    spans: NDArray[np.int64]  # (windows,): the span, counted from 0, that each window belongs to

    def __len__(self) -> int:
        return len(self.starts)


def slide(spans: Spans, *, window: Seconds, hop: Seconds, shortest: Seconds, duration: Seconds) -> Windows:
    """Windows of `window` seconds that step by at most `hop` through each span, evenly, from its start to its end.

    A span no longer than `window` is one window by itself; if it is shorter than `shortest`, the window grows around
    its middle to that length, as far as the recording goes. Every span has at least one window.

        speech     |=======================|        |==|
        windows    |-------|       |-------|       |----|
                       |-------|
                           |-------|
    """
    starts: list[NDArray[np.float64]] = []
    ends: list[NDArray[np.float64]] = []
    for start, end in spans:
        if end - start <= window:
            missing = max(0.0, shortest - (end - start)) / 2
            first = max(0.0, min(start - missing, duration - shortest))
            starts.append(np.array([first if missing else start]))
            ends.append(np.array([min(duration, first + shortest) if missing else end]))
        else:
            steps = int(np.ceil((end - start - window) / hop - 1e-9))
            firsts = np.linspace(start, end - window, steps + 1)
            starts.append(firsts)
            ends.append(firsts + window)
    counts = [len(part) for part in starts]
    return Windows(
        np.concatenate([np.zeros(0), *starts]),
        np.concatenate([np.zeros(0), *ends]),
        np.repeat(np.arange(len(spans), dtype=np.int64), counts),
    )


def turns_from_windows(spans: Spans, windows: Windows, labels: NDArray[np.int64]) -> Turns:
    """One speaker at a time: each moment of speech goes to the speaker of the window whose middle is nearest.

    `labels` (windows,) holds the speaker of each window. Speakers are named speaker1, speaker2, ... in the order in
    which they first speak.
    """
    rows: list[tuple[Seconds, Seconds, str]] = []
    names: dict[int, str] = {}
    middles = (windows.starts + windows.ends) / 2
    firsts = np.searchsorted(windows.spans, np.arange(len(spans) + 1))
    for index, (start, end) in enumerate(spans):
        own = slice(int(firsts[index]), int(firsts[index + 1]))
        changes = np.flatnonzero(np.diff(labels[own]))
        between = (middles[own][changes] + middles[own][changes + 1]) / 2
        cuts = [start, *between.tolist(), end]
        speakers = labels[own][np.append(changes, own.stop - own.start - 1)].tolist()
        for left, right, speaker in zip(cuts[:-1], cuts[1:], speakers, strict=True):
            rows.append((left, right, names.setdefault(speaker, f"speaker{len(names) + 1}")))
    return Turns.of(rows)
