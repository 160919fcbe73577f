"""Files that are nearly right: lines of each format, broken in the ways that files break; the same for a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

IDS = ["a", "b", "meeting_1", "ünï", "a.b", "a-b"]
SPEAKERS = ["A", "B", "spk00", "Ä", "<NA>", "-", "10"]
# Numbers at the edges of what is allowed, and beyond.
NUMBERS = [
    "0", "-0", "0.0", "1", "2.5", ".5", "5.", "1e0", "1e-9", "3.0000001", "0.1", "0.30000000000000004", "1e9",
    "999999999.9", "1e10", "1e999", "-1", "-1e-12", "nan", "inf", "-inf", "Infinity", "NaN", "1_0", "0x1", "1,5", "١",
    "", "--1", "1e", "1e1000000", "9" * 400, "0." + "0" * 400 + "1", "1:30", "null", "true",
]  # fmt: skip
PIECES = [
    " ", "\t", "\n", "\r", "\r\n", "\x00", "\x0b", "\x85", "\u2028", "\ufeff", "\ud800", "\x1b[31m", "\u202e", '"',
    "\\", "/", "..", ":", ";;", "#", "<", ">", "[", "]", "{", "}", ",", "SPEAKER", "LEXEME", "<NA>", "é", "🎙", "%s",
    "[" * 3000,
]  # fmt: skip


def _number(random: Random) -> str:
    return f"{random.uniform(0, 20):.{random.randrange(7)}f}" if random.random() < 0.93 else random.choice(NUMBERS)


def _span(random: Random) -> tuple[str, str]:
    start = random.uniform(0, 20)
    sound = f"{start:.2f}", f"{start + random.choice([0, 0.01, 0.5, 3]):.2f}"
    return sound if random.random() < 0.9 else (_number(random), _number(random))


def rttm(random: Random) -> str:
    """A few RTTM lines."""
    return "".join(
        f"SPEAKER {random.choice(IDS[:2])} 1 {_number(random)} {_number(random)} <NA> <NA> "
        f"{random.choice(SPEAKERS)} <NA> <NA>\n"
        for _ in range(random.randrange(7))
    )


def uem(random: Random) -> str:
    """A few UEM lines."""
    return "".join(f"{random.choice(IDS[:2])} 1 {' '.join(_span(random))}\n" for _ in range(random.randrange(5)))


def ids(random: Random) -> str:
    """A list of ids."""
    return "".join(f"{name}\n" for name in random.sample(IDS, random.randrange(5)))


def stm(random: Random) -> str:
    """A few STM lines."""
    return "".join(
        f"{random.choice(IDS[:2])} 1 {random.choice([*SPEAKERS, 'inter_segment_gap'])} {' '.join(_span(random))} "
        f"{random.choice(['', '<o,f0,male>', '<o> so', 'hello there', 'IGNORE_TIME_SEGMENT_IN_SCORING'])}\n"
        for _ in range(random.randrange(7))
    )


def seglst(random: Random) -> str:
    """A few SegLST segments, numbers written bare or as text."""
    segments = []
    for _ in range(random.randrange(7)):
        start, end = _span(random)
        bare = random.random() < 0.7
        segment = {
            "session_id": json.dumps(random.choice(IDS[:2])),
            "speaker": json.dumps(random.choice(SPEAKERS)),
            "start_time": start if bare else json.dumps(start),
            "end_time": end if bare else json.dumps(end),
            "words": '"hi"',
        }
        if random.random() < 0.05:
            del segment[random.choice(list(segment))]
        segments.append("{" + ", ".join(f'"{key}": {value}' for key, value in segment.items()) + "}")
    return "[" + ",\n".join(segments) + "]"


def mutated(make: Callable[[Random], str], random: Random) -> bytes:
    """A file of that kind, with up to three things broken; now and then none."""
    text = make(random)
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        text = random.choice(_BREAKS)(text, random)
    data = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.1 and data:  # bytes, without regard to characters
        place = random.randrange(len(data))
        data = data[:place] + bytes([random.randrange(256)]) + data[place + random.randrange(2) :]
    return random.choice([b"", b"", b"", b"\xef\xbb\xbf"]) + data


def _insert(text: str, random: Random) -> str:
    place = random.randrange(len(text) + 1)
    return text[:place] + random.choice(PIECES) + text[place:]


def _delete(text: str, random: Random) -> str:
    place = random.randrange(len(text) + 1)
    return text[:place] + text[place + random.randrange(1, 12) :]


def _repeat(text: str, random: Random) -> str:
    first, last = sorted(random.randrange(len(text) + 1) for _ in range(2))
    return text[:last] + text[first:]


def _cut(text: str, random: Random) -> str:
    return text[: random.randrange(len(text) + 1)]


def _word(text: str, random: Random) -> str:
    words = text.split(" ")
    words[random.randrange(len(words))] = random.choice([*NUMBERS, *PIECES])
    return " ".join(words)


def _swap(text: str, random: Random) -> str:
    lines = text.split("\n")
    random.shuffle(lines)
    return random.choice(["\n", "\r\n", "\r", "\n\n"]).join(lines)


_BREAKS = [_insert, _delete, _repeat, _cut, _word, _swap]
