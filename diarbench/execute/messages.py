"""What the parent and a worker process tell each other: one JSON object a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diarbench.plan import Job
from diarbench.types import Recording


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
    requires: tuple[str, ...]
    device: str
    threads: int
    quiet: bool  # nothing else of diarbench runs beside it: timings count
    tasks: tuple[Task, ...]

    @classmethod
    def of(cls, job: Job, tasks: tuple[Task, ...], quiet: bool) -> Order:
        """The order for the system of a job."""
        prepared = job.system
        return cls(
            system=prepared.spec.name,
            adapter_file=prepared.adapter.file,
            adapter_module=prepared.adapter.module,
            attribute=prepared.adapter.attribute,
            options=prepared.spec.options,
            weights=prepared.weights,
            files=prepared.files,
            requires=tuple(prepared.spec.card.requires),
            device=job.device,
            threads=job.threads,
            quiet=quiet,
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
            "weights": {name: str(path) for name, path in self.weights.items()},
            "files": {name: str(path) for name, path in self.files.items()},
            "requires": list(self.requires),
            "device": self.device,
            "threads": self.threads,
            "quiet": self.quiet,
            "tasks": [
                {
                    "folder": str(task.folder),
                    "run": dict(task.run),
                    "dataset": task.dataset,
                    "again": task.again,
                    "recordings": [
                        {
                            "id": recording.id,
                            "path": _text(recording.path),
                            "duration": recording.duration,
                            "sample_rate": recording.sample_rate,
                            "channel": recording.channel,
                        }
                        for recording in task.recordings
                    ],
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
            requires=tuple(value["requires"]),
            device=value["device"],
            threads=value["threads"],
            quiet=value["quiet"],
            tasks=tuple(
                Task(
                    folder=Path(task["folder"]),
                    run=task["run"],
                    dataset=task["dataset"],
                    again=task["again"],
                    recordings=tuple(
                        Recording(r["id"], _path(r["path"]), r["duration"], r["sample_rate"], r["channel"])
                        for r in task["recordings"]
                    ),
                )
                for task in value["tasks"]
            ),
        )


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None
