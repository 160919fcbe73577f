"""How numbers and names are printed in every table; knows nothing of boards or formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING = "–"  # printed where there is no value
MINUS = "−"  # U+2212, as wide as a plus sign
WITHIN_NOISE = "≈"  # behind a speed-up that is none, for all that was measured
UNJUDGED = "?"  # behind a speed-up of which nothing can be said, as the noise is not known
BUSY = "!"  # behind a figure that was taken while other work was seen on the machine

RELATED = "†"  # behind a DER on a corpus of which the system was trained on another part
SEEN = "‡"  # behind a DER on recordings that the system was, or may have been, trained on


def plain(text: object) -> str:
    r"""One line of printable characters: control characters, line breaks, lone surrogates and direction marks
    become spaces, so that no name or error can move a cursor, break a table row, or fail to be encoded.

    >>> plain("a\nb\x1b[31mc")
    'a b [31mc'
    """
    return "".join(character if character.isprintable() else " " for character in str(text))


def clip(text: str, length: int) -> str:
    """At most `length` characters, the last one "…" where something was cut.

    >>> clip("confusion", 5)
    'conf…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def percent(fraction: float) -> str:
    """A fraction in percent, one decimal.

    >>> percent(0.1234)
    '12.3'
    """
    return f"{100 * fraction:.1f}"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, signed, two decimals: compression moves a DER by little.

    >>> points(0.0012), points(-0.01), points(1e-9)
    ('+0.12', '−1.00', '0.00')
    """
    value = round(100 * difference, 2)
    sign = "+" if value > 0 else MINUS if value < 0 else ""
    return f"{sign}{abs(value):.2f}"


def p_value(value: float) -> str:
    """A p-value with four decimals.

    >>> p_value(0.01234), p_value(0.00001)
    ('0.0123', '< 0.0001')
    """
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def count(number: float) -> str:
    """A count with three significant digits and K, M or G for thousands, millions and thousands of millions.

    >>> count(0), count(999), count(94_700_000), count(999_999)
    ('0', '999', '94.7 M', '1.00 M')
    """
    return _scaled(number, ("", "K", "M", "G"))


def size(number_of_bytes: float) -> str:
    """Bytes in decimal units (1 MB is a million bytes), three significant digits.

    >>> size(512), size(7_560_000)
    ('512 B', '7.56 MB')
    """
    return _scaled(number_of_bytes, ("B", "kB", "MB", "GB"))


def ratio(value: float) -> str:
    """Three significant digits without an exponent; for real-time factors, which span many powers of ten.

    >>> ratio(0.03104), ratio(2.0), ratio(1234.0), ratio(0.0000216)
    ('0.0310', '2.00', '1234', '<0.0001')
    """
    return f"{value:.{max(0, 2 - _power_of_ten(value))}f}" if value >= 0.0001 else "<0.0001"


def times(factor: float) -> str:
    """A ratio of two speeds.

    >>> times(1.234), times(12.34)
    ('1.23×', '12.3×')
    """
    return f"{ratio(factor) if factor >= 10 else f'{factor:.2f}'}×"


def interval(low: float, high: float) -> str:
    """Both ends, as `times` has them.

    >>> interval(1.2, 12.34)
    '[1.20, 12.3]'
    """
    return f"[{times(low)[:-1]}, {times(high)[:-1]}]"


def speedup(median: float, low: float, high: float, marks: str) -> str:
    """A speed-up with its interval, and marks of what it is worth.

    >>> speedup(1.02, 0.98, 1.06, WITHIN_NOISE)
    '1.02× [0.98, 1.06] ≈'
    """
    return f"{times(median)} {interval(low, high)} {marks}".rstrip()


def duration(seconds: float) -> str:
    """A short time, three significant digits.

    >>> duration(0.01234), duration(12.345), duration(0.0000012)
    ('12.3 ms', '12.3 s', '0.00120 ms')
    """
    return f"{ratio(seconds)} s" if seconds >= 1 else f"{ratio(1000 * seconds)} ms"


def energy(joules: float) -> str:
    """Joules, three significant digits.

    >>> energy(12), energy(12345)
    ('12 J', '12.3 kJ')
    """
    return _scaled(joules, ("J", "kJ", "MJ", "GJ"))


def size_change(number_of_bytes: float) -> str:
    """A difference of two sizes, signed.

    >>> size_change(7_560_000), size_change(-1000), size_change(0)
    ('+7.56 MB', '−1.00 kB', '+0 B')
    """
    return f"{MINUS if number_of_bytes < 0 else '+'}{size(abs(number_of_bytes))}"


def minutes(seconds: float) -> str:
    """A length of audio: in minutes, or in hours where it is two or more.

    >>> minutes(30), minutes(1500), minutes(36000)
    ('0.5 min', '25 min', '10.0 h')
    """
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"


def many(number: int, noun: str) -> str:
    """The number with its noun.

    >>> many(1, "recording"), many(3, "recording")
    ('1 recording', '3 recordings')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(names: list[str], most: int) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def compression_facts(compression: Mapping[str, Any]) -> str:
    """The method and the other facts of a card's [compression], in one line.

    >>> compression_facts({"method": "params", "sparsity": 0.8})
    'params, sparsity 0.8'
    """
    facts = [f"{plain(key)} {plain(value)}" for key, value in compression.items() if key != "method"]
    return ", ".join([method(compression), *facts]) if compression else ""


def method(compression: Mapping[str, Any]) -> str:
    """The compression method that a card states, or "" where it states none."""
    return plain(compression.get("method", ""))


def hardware(facts: Mapping[str, Any]) -> str:
    """A machine's fingerprint in a line: processor, logical cores, memory and GPUs, as far as they are known.

    >>> hardware({"cpu": "A", "logical_cores": 4, "memory_bytes": 16 << 30, "gpus": [{"name": "B"}]}), hardware({})
    ('A, 4 logical cores, 16 GiB, B', '')
    """
    cores, memory, gpus = facts.get("logical_cores"), facts.get("memory_bytes"), facts.get("gpus")
    parts = [plain(facts["cpu"])] if facts.get("cpu") else []
    parts += [many(cores, "logical core")] if isinstance(cores, int) and cores else []
    parts += [f"{memory / (1 << 30):.0f} GiB"] if isinstance(memory, int) and memory else []
    cards = gpus if isinstance(gpus, list | tuple) else ()
    parts += [plain(card["name"]) for card in cards if isinstance(card, Mapping) and "name" in card]
    return ", ".join(parts)


def _power_of_ten(value: float) -> int:
    """The exponent of the value once it is rounded to three significant digits."""
    return int(f"{abs(value):.2e}".rpartition("e")[2])


def _scaled(number: float, units: tuple[str, ...]) -> str:
    step = min(max(0, _power_of_ten(number)) // 3, len(units) - 1) if number else 0
    value = number / 1000**step
    digits = f"{value:.0f}" if step == 0 else ratio(value)
    return f"{digits} {units[step]}".rstrip()
