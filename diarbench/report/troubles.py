"""What went wrong on a board, gathered so that every format tells all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diarbench.report import text

if TYPE_CHECKING:
    from diarbench.leaderboard import Leaderboard, Line


# Where more is to be found about a failed recording.
DETAIL = 'Whole tracebacks: "detail" in recordings/ID.json of a run\'s folder, below SYSTEM/DATASET of the results.'


@dataclass(frozen=True, slots=True)
class Trouble:
    """Recordings of one system and dataset that failed in the same way, or a problem of the system as a whole."""

    system: str
    dataset: str | None  # None: the whole system
    recordings: tuple[str, ...]
    of: int  # recordings that the dataset has here
    error: str

    @property
    def sentence(self) -> str:
        """All of it in one line; of many recordings, the first ones."""
        if self.dataset is None:
            return f"{self.system}: {self.error}"
        shown = text.some(list(self.recordings), 5)
        return f"{self.system}, {self.dataset}, {len(self.recordings)} of {self.of} recordings ({shown}): {self.error}"


def troubles(board: Leaderboard) -> list[Trouble]:
    """Failed recordings and problems, in the order of the lines; recordings with the same error together.

    Recordings that were never run are no trouble: `Line.unranked` says how many there are.
    """
    return [trouble for line in board.lines for trouble in _of_line(board, line)]


def timings_left_out(board: Leaderboard) -> list[str]:
    """Systems without a speed at a place where they were timed, one line each: nothing that went wrong with them."""
    return [
        f"{line.entry.system}: {'; '.join(line.entry.timings_left_out)}"
        for line in board.lines
        if line.entry.timings_left_out
    ]


def _of_line(board: Leaderboard, line: Line) -> list[Trouble]:
    entry = line.entry
    sizes = {column.name: len(column.recordings) for column in board.columns}
    found = [Trouble(entry.system, None, (), 0, problem) for problem in entry.problems]
    for dataset, score in entry.scores.items():
        by_error: dict[str, list[str]] = {}
        for recording, error in score.failures.items():
            by_error.setdefault(error, []).append(recording)
        for error, names in by_error.items():
            of = sizes.get(dataset, len(score.recordings) + len(score.failures) + len(score.missing))
            found.append(Trouble(entry.system, dataset, tuple(names), of, error))
    return found
