"""Whether a card holds: files, digests, requirements; and whether a system really runs."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diarbench.audio import decode
from diarbench.cards import DatasetCard, SystemSpec, read_card
from diarbench.errors import DiarbenchError, NotFoundError, did_you_mean
from diarbench.loaders import Dataset, load_dataset
from diarbench.plan import find_adapter, missing_requirements, plan
from diarbench.registry import Registry, shipped
from diarbench.scoring import find_rule
from diarbench.types import LabelledRecording, Recording, Seconds

_LENGTH = 10.0  # s of audio that a system is tried on


@dataclass(frozen=True)
class Check:
    """What was found about one card."""

    kind: str  # "system", "dataset" or "report"
    name: str
    problem: str | None  # one line; None where all is well
    summary: str = ""

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class _Silent:
    """Shows nothing."""

    def begin(self, recordings: int, audio: Seconds) -> None: ...

    def system(self, name: str, position: int, count: int) -> None: ...

    def recording(self, system: str, recording: str, audio: Seconds, status: str) -> None: ...


def check_card(registry: Registry, name: str, *, run: bool) -> list[Check]:
    """Check the card of that name or path; a card with a sweep or a pattern gives one result per system.

    With `run`, weights are found and the system diarizes ten seconds of audio in a process of its own. Raises
    NotFoundError for an unknown name, CardError for a card that can't be read.
    """
    kind = _kind(registry, name)
    if kind == "dataset":
        return [_check_dataset(found, path, card) for found, (path, card) in registry.choose_datasets([name]).items()]
    if kind == "report":
        return [_check_report(registry, name)]
    return [_check_system(spec, run) for spec in registry.choose_systems([name])]


def _kind(registry: Registry, name: str) -> str:
    if name.endswith(".toml"):
        parents = reversed(Path(name).resolve().parent.parts)
        return next((part[:-1] for part in parents if part in ("systems", "datasets", "reports")), "system")
    if name in registry.datasets:
        return "dataset"
    if name in registry.reports:
        return "report"
    if name in registry.systems or any(mark in name for mark in "*?@["):
        return "system"
    known = [*registry.systems, *registry.datasets, *registry.reports]
    raise NotFoundError(f"no system, dataset or report {name!r}{did_you_mean(name, known)}")


def _check_system(spec: SystemSpec, run: bool) -> Check:
    try:
        find_adapter(spec)
        if missing := missing_requirements(spec.card.requires):
            return Check("system", spec.name, f"not installed: pip install {' '.join(map(repr, missing))}")
        if not run:
            return Check("system", spec.name, None, "card, adapter file and requirements hold; not run")
        with tempfile.TemporaryDirectory(prefix="diarbench-") as folder:
            return _try(spec, Path(folder))
    except DiarbenchError as error:
        return Check("system", spec.name, str(error))


def _try(spec: SystemSpec, folder: Path) -> Check:
    """Run the system on a few seconds through the same door as a benchmark."""
    from diarbench.execute import execute

    dataset = _excerpt(folder)
    jobs = plan([spec], [dataset], device="auto", threads=1, limit=None)
    outcome = execute(jobs, root=folder / "runs", machine="check", machine_facts={}, progress=_Silent())
    if outcome.failures:
        return Check("system", spec.name, outcome.failures[0].split(": ", 1)[1])
    results = outcome.folders[spec.name, dataset.name]
    turns = results.hypothesis("excerpt")
    result = results.result("excerpt")
    timing = result["timing"] if result else None
    took = f" in {timing['wall']:.2f} s" if timing else ""
    return Check(
        "system", spec.name, None, f"{len(turns)} turns of {len(turns.labels)} speakers{took}, {_LENGTH:g} s of audio"
    )


def _excerpt(folder: Path) -> Dataset:
    """The first seconds of a shipped conversation, as a dataset of its own."""
    import soundfile

    path = shipped() / "datasets" / "voices.toml"
    card = read_card(path, DatasetCard)
    whole = load_dataset("voices", path, card).recordings[0]
    samples = decode(whole.recording).samples[:, : int(_LENGTH * whole.recording.sample_rate)]
    wav = folder / "excerpt.wav"
    soundfile.write(str(wav), np.asarray(samples).T, whole.recording.sample_rate, subtype="PCM_16")
    recording = Recording("excerpt", wav, _LENGTH, whole.recording.sample_rate)
    labelled = LabelledRecording(recording, whole.reference.crop(0.0, _LENGTH), ((0.0, _LENGTH),))
    return Dataset("excerpt", card, (labelled,))


def _check_dataset(name: str, path: Path, card: DatasetCard) -> Check:
    try:
        for rule in card.rules:
            find_rule(rule)
        dataset = load_dataset(name, path, card)
    except DiarbenchError as error:
        return Check("dataset", name, str(error))
    found = {
        "recordings": len(dataset.recordings),
        "hours": dataset.duration / 3600,
        "speakers": len({label for r in dataset.recordings for label in r.reference.labels}),
    }
    for key, expected in card.expect.model_dump(exclude_none=True).items():
        # Hours are stated rounded; counts are exact.
        if abs(found[key] - expected) > (0.01 * expected if key == "hours" else 0):
            return Check("dataset", name, f"{found[key]:g} {key}, the card expects {expected:g}")
    summary = f"{found['recordings']} recordings, {found['hours']:.2f} hours, {found['speakers']} speakers"
    return Check("dataset", name, None, summary)


def _check_report(registry: Registry, name: str) -> Check:
    try:
        _, card = registry.choose_report(name)
        find_rule(card.rule)
        systems = registry.choose_systems(card.systems)
        datasets = registry.choose_datasets(card.datasets)
    except DiarbenchError as error:
        return Check("report", name, str(error))
    return Check("report", name, None, f"{len(systems)} systems, {len(datasets)} datasets")
