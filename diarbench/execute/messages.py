"""What the parent and a worker process tell each other: one JSON object a line.

The parent sends one order. The worker answers with events, each with the key `event`:

    loaded        the system is built
    unloadable    it can't be built (`error`); the worker ends
    waiting       another process works on the run of a `dataset`
    holding       this one works on it
    start         a `recording` of a `dataset` is read; the result of the one before may be being written meanwhile
    call          the system is called: what follows has the time limit
    done          stored, with its wall time; told before the next `call`
    failed        its failure is stored (`error`)
    kept          another process has done it meanwhile
    restart       the GPU is of no use to this process any more; the worker ends, and another has to go on
    fatal         results can't be stored (`error`); the worker ends
    finished      nothing is left to do; the worker ends
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diarbench.types import Recording

if TYPE_CHECKING:  # a worker starts sooner without the reading of cards
    from diarbench.plan import Prepared


@dataclass(frozen=True)
class Task:
    """The part of a job that a worker has to do: recordings of one dataset, into one run folder."""

    folder: Path
    run: Mapping[str, Any]  # run.json
    dataset: str
    recordings: tuple[Recording, ...]
    again: bool


@dataclass(frozen=True)
class Order:
    """All that a worker is told: one system, and its tasks."""

    system: str
    adapter_file: Path | None
    adapter_module: str | None
    attribute: str
    options: Mapping[str, Any]
    weights: Mapping[str, Path]
    files: Mapping[str, Path]
    distributions: tuple[str, ...]  # whose versions are recorded
    device: str
    threads: int
    session: str  # the name of this process in the results
    machine: Mapping[str, Any]  # its fingerprint
    mark: Path | None  # of this run among those on this machine: timings count only where it is alone
    tasks: tuple[Task, ...]

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        tasks: tuple[Task, ...],
        *,
        device: str,
        threads: int,
        session: str,
        machine: Mapping[str, Any],
        mark: Path | None,
    ) -> Order:
        """The order for a system."""
        from diarbench.plan import distribution_names

        return cls(
            system=prepared.spec.name,
            adapter_file=prepared.adapter.file,
            adapter_module=prepared.adapter.module,
            attribute=prepared.adapter.attribute,
            options=prepared.spec.options,
            weights=prepared.weights,
            files=prepared.files,
            distributions=tuple(distribution_names(prepared.spec.card.requires)),
            device=device,
            threads=threads,
            session=session,
            machine=machine,
            mark=mark,
            tasks=tasks,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "system": self.system,
            "adapter_file": _text(self.adapter_file),
            "adapter_module": self.adapter_module,
            "attribute": self.attribute,
            "options": dict(self.options),
            "weights": {name: _text(path) for name, path in self.weights.items()},
            "files": {name: _text(path) for name, path in self.files.items()},
            "distributions": list(self.distributions),
            "device": self.device,
            "threads": self.threads,
            "session": self.session,
            "machine": dict(self.machine),
            "mark": _text(self.mark),
            "tasks": [
                {
                    "folder": _text(task.folder),
                    "run": dict(task.run),
                    "dataset": task.dataset,
                    "again": task.again,
                    "recordings": [recording_to_json(recording) for recording in task.recordings],
                }
                for task in self.tasks
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Order:
        """From plain data."""
        return cls(
            system=value["system"],
            adapter_file=_path(value["adapter_file"]),
            adapter_module=value["adapter_module"],
            attribute=value["attribute"],
            options=value["options"],
            weights={name: Path(path) for name, path in value["weights"].items()},
            files={name: Path(path) for name, path in value["files"].items()},
            distributions=tuple(value["distributions"]),
            device=value["device"],
            threads=value["threads"],
            session=value["session"],
            machine=value["machine"],
            mark=_path(value["mark"]),
            tasks=tuple(
                Task(
                    folder=Path(task["folder"]),
                    run=task["run"],
                    dataset=task["dataset"],
                    again=task["again"],
                    recordings=tuple(recording_from_json(recording) for recording in task["recordings"]),
                )
                for task in value["tasks"]
            ),
        )


def recording_to_json(recording: Recording) -> dict[str, Any]:
    """A recording as plain data."""
    return {
        "id": recording.id,
        "path": _text(recording.path),
        "duration": recording.duration,
        "sample_rate": recording.sample_rate,
        "channel": recording.channel,
    }


def recording_from_json(value: Mapping[str, Any]) -> Recording:
    """A recording from plain data."""
    return Recording(value["id"], _path(value["path"]), value["duration"], value["sample_rate"], value["channel"])


def _text(path: Path | None) -> str | None:
    # Absolute: an adapter may change the working folder.
    return os.path.abspath(path) if path is not None else None


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None
