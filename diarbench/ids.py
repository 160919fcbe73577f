"""Ids that should be the same on two sides, and are not: what they differ in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple


def near_ids(references: Iterable[str], hypotheses: Iterable[str]) -> str:
    """Two ids that differ in little, and in what, of ids that are on one side each; "" where none do."""
    ours, theirs = sorted(references), sorted(hypotheses)
    for what, changed in (
        ("case", str.casefold),
        ("their ending", _stem),
        ("case and their ending", lambda id: _stem(id.casefold())),
    ):
        known = {changed(id): id for id in reversed(ours)}
        for id in theirs:
            if changed(id) in known:
                return f"{known[changed(id)]} and {id} differ only in {what}"
    found: defaultdict[_More, list[tuple[str, str]]] = defaultdict(list)
    for more, one, other in _longer(ours, theirs):
        found[more].append((one, other))
    for more, one, other in _longer(theirs, ours):
        found[more].append((other, one))
    for more, pairs in sorted(found.items(), key=lambda item: -len(item[1])):
        if len(pairs) > 1 or more.is_joined:  # else it may be chance: a and ab
            return f"{pairs[0][0]} and {pairs[0][1]} differ only in {more.text!r} at the {more.place}"
    return ""


class _More(NamedTuple):
    """What one id has and another has not."""

    text: str
    place: Literal["beginning", "end"]

    @property
    def is_joined(self) -> bool:
        """Whether a dash or the like stands between it and the rest of the id."""
        return not (self.text[0] if self.place == "end" else self.text[-1]).isalnum()


def _longer(short: Iterable[str], long: Iterable[str]) -> Iterator[tuple[_More, str, str]]:
    """What ids have more than others, with the other and the one that has it."""
    known = set(short)
    for id in long:
        for cut in range(1, len(id)):
            if id[:cut] in known:
                yield _More(id[cut:], "end"), id[:cut], id
            if id[cut:] in known:
                yield _More(id[:cut], "beginning"), id[cut:], id


def _stem(recording_id: str) -> str:
    """The id without the ending of a file; a dot alone ends nothing: m.1 and m.2 are two recordings."""
    return _ENDING.sub("", recording_id)


_ENDING = re.compile(r"\.(?:wav|flac|mp3|mp4|m4a|ogg|opus|sph|webm|rttm|stm|json|uem|lab|txt)$", re.IGNORECASE)
