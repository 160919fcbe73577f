"""All errors that diarbench raises on purpose; each says what, where, and what to do next.

DiarbenchError                 anything a user can be told in one line; the command line exits with 2
├── InputError                 a file or argument that is wrong
│   ├── CardError              a system, dataset or report card
│   ├── RttmError              an RTTM, UEM or list file, with file and line
│   ├── AudioError             audio that is missing, empty, truncated, or has unexplained channels
│   └── NotFoundError          a name that nothing is registered under ("did you mean")
├── AdapterError               an adapter that breaks its contract
├── MissingRequirementError         a package, weight file or program that has to be installed first
└── StoreError                 results that can't be read or written (a full disk, a newer format)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class DiarbenchError(Exception):
    """Anything a user can be told in one line."""


class InputError(DiarbenchError):
    """A file or an argument that is wrong."""


class CardError(InputError):
    """A system, dataset or report card that can't be used."""


class RttmError(InputError):
    """A line of an RTTM, UEM or list file that can't be used.

    >>> print(RttmError("a.rttm", 3, "the duration is negative"))
    a.rttm, line 3: the duration is negative
    """

    def __init__(self, path: Path | str, line: int | None, problem: str) -> None:
        self.path, self.line, self.problem = path, line, problem
        where = f"{path}, line {line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {problem}")


class AudioError(InputError):
    """Audio that is missing, empty, truncated, or has channels that no rule explains."""


class NotFoundError(InputError):
    """A name that nothing is registered under."""


class AdapterError(DiarbenchError):
    """An adapter that breaks its contract (what `diarize` may return is in docs/adding-a-system.md)."""


class MissingRequirementError(DiarbenchError):
    """A package, weight file or program that has to be there first."""


class StoreError(DiarbenchError):
    """Results that can't be read or written."""


def counted(number: int, one: str, several: str) -> str:
    """A number with the words that agree with it.

    >>> counted(1, "hypothesis has", "hypotheses have"), counted(2, "hypothesis has", "hypotheses have")
    ('1 hypothesis has', '2 hypotheses have')
    """
    return f"{number} {one if number == 1 else several}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A tail for an error about an unknown name: the nearest known ones, or all of a short list.

    >>> did_you_mean("colar", ["collar", "overlap"])
    '; did you mean collar?'
    >>> did_you_mean("x", ["collar", "overlap"])
    '; known: collar, overlap'
    >>> did_you_mean("x", [])
    ''
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if not known:
        return ""
    shown = ", ".join(known[:20])
    return f"; known: {shown}" + (f" and {len(known) - 20} more" if len(known) > 20 else "")
