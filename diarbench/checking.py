"""Whether a card holds: files, digests, requirements; and whether a system really runs."""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diarbench.audio import decode
from diarbench.cards import DatasetCard, SystemSpec, Weights, read_card
from diarbench.errors import DiarbenchError, MissingRequirementError, NotFoundError, did_you_mean
from diarbench.loaders import Dataset, load_dataset
from diarbench.loaders.facts import facts_of, mismatches
from diarbench.plan import (
    distribution_names,
    find_adapter,
    find_file,
    is_replay,
    missing_requirements,
    plan,
    without_audio,
)
from diarbench.published import read_published
from diarbench.registry import Registry, shipped
from diarbench.scoring import parse_rule
from diarbench.types import LabelledRecording, Recording, Seconds

if TYPE_CHECKING:
    from diarbench.execute import Failure

_LENGTH = 10.0  # s of audio that a system is tried on
_SHOWN = 3  # ids in a problem
# The last window or frame of a system may reach past the end. (What ends ten times as late is a failure of the run.)
_OVERSHOOT: Seconds = 0.5


@dataclass(frozen=True)
class Check:
    """What was found about one card."""

    kind: str  # "system", "dataset", "report" or "published"
    name: str
    problem: str | None  # one line; None where all is well
    summary: str = ""
    notes: tuple[str, ...] = ()  # what the user should know of its weights, its turns, or what a dataset leaves out
    missing: tuple[str, ...] = ()  # of the card's `requires`, what is not installed

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class _Silent:
    """Shows nothing."""

    def begin(self, recordings: int, audio: Seconds) -> None: ...

    def system(self, name: str, position: int, count: int) -> None: ...

    def failed(self, failure: Failure) -> None: ...

    def recording(self, system: str, recording: str, audio: Seconds, status: str) -> None: ...


def check_card(registry: Registry, name: str, *, run: bool, weights: Path | None = None) -> list[Check]:
    """Check the card of that name or path; a card with a sweep or a pattern gives one result per system.

    With `run`, weights are found (first in the folder `weights`) and the system diarizes ten seconds of audio in a
    process of its own. Without it nothing is fetched: the adapter is imported, the card's options are held against its
    constructor, and its networks are built without weights, where it shows them. What the card requires has to be
    installed for a run; for a look, only as far as the adapter and its networks need it. Raises NotFoundError for an
    unknown name, CardError for a card that can't be read.
    """
    kind = _kind(registry, name)
    if kind == "dataset":
        return [_check_dataset(found, path, card) for found, (path, card) in registry.choose_datasets([name]).items()]
    if kind == "report":
        return [_check_report(registry, name)]
    if kind == "published":
        return [_check_published(registry, name)]
    return [_check_system(registry, spec, run, weights) for spec in registry.choose_systems([name])]


def _kind(registry: Registry, name: str) -> str:
    if name.endswith(".toml"):
        parents = reversed(Path(name).resolve().parent.parts)
        kinds = {"systems": "system", "datasets": "dataset", "reports": "report", "published": "published"}
        return next((kinds[part] for part in parents if part in kinds), "system")
    if name in registry.datasets:
        return "dataset"
    if name in registry.reports:
        return "report"
    if name in registry.published:
        return "published"
    if name in registry.systems or any(mark in name for mark in "*?@["):
        return "system"
    known = [*registry.systems, *registry.datasets, *registry.reports, *registry.published]
    raise NotFoundError(f"no system, dataset or report {name!r}{did_you_mean(name, known)}")


def _check_system(registry: Registry, spec: SystemSpec, run: bool, weights: Path | None) -> Check:
    try:
        find_adapter(spec)
        missing = tuple(missing_requirements(spec.card.requires))
        if is_replay(spec):
            return _check_replay(registry, spec, run)
        if not run:
            return _look(spec, missing)
        if missing:
            return Check("system", spec.name, f"not installed: {_install(missing)}", missing=missing)
        with tempfile.TemporaryDirectory(prefix="diarbench-") as folder:
            return _try(spec, Path(folder), weights)
    except DiarbenchError as error:
        return Check("system", spec.name, str(error))


def _check_replay(registry: Registry, spec: SystemSpec, run: bool) -> Check:
    """Whether stored outputs can be read, as far as they are here; with `run`, some must be. Of datasets that are here,
    every recording needs one. Raises DiarbenchError."""
    from diarbench.adapters import Replay

    here, absent, lacking = [], [], []
    for name, place in spec.card.files.items():
        try:
            path, _ = find_file(spec, name, place)
        except MissingRequirementError as error:
            absent.append(str(error))
            continue
        stored = Replay(files={"hypotheses": path}).recordings
        here.append(f"{name} ({len(stored)})")
        wanted = _recordings_of(registry, name)
        if without := [recording for recording in wanted if recording not in stored]:
            some = ", ".join(without[:_SHOWN]) + (", …" if len(without) > _SHOWN else "")
            lacking.append(f"no RTTM of {name} for {len(without)} of {len(wanted)} recordings ({some})")
    if lacking:
        return Check("system", spec.name, f"{'; '.join(lacking)}; an empty ID.rttm says that nobody speaks")
    if run and not here:
        return Check("system", spec.name, absent[0] if absent else "its card names no outputs: [files] is empty")
    said = [f"stored outputs of {', '.join(here)}"] if here else []
    said += [f"not here: {len(absent)} of {len(spec.card.files)} datasets"] if absent else []
    return Check("system", spec.name, None, "; ".join(said))


def _recordings_of(registry: Registry, name: str) -> list[str]:
    """The ids of a dataset that is here and can be read; none else, since that is no fault of a system's. Nothing is
    fetched or made."""
    if name not in registry.datasets:
        return []
    try:
        path, card = registry.choose_datasets([name])[name]
        if card.wheel or card.simulate or (card.huggingface and card.huggingface.hub):
            return []
        dataset = load_dataset(name, path, without_audio(card) or card)
    except DiarbenchError:
        return []
    return [labelled.recording.id for labelled in dataset.recordings]


def _install(missing: tuple[str, ...]) -> str:
    return f"pip install {' '.join(map(repr, missing))}"


def _look(spec: SystemSpec, missing: tuple[str, ...]) -> Check:
    """What can be told of a system without its weights, and without what is missing. Raises DiarbenchError where all
    is installed, and it can't be right."""
    try:
        held = _held(spec)
    except DiarbenchError as error:
        if not missing:
            raise
        return Check("system", spec.name, f"not installed: {_install(missing)}; without, {error}", missing=missing)
    if missing:
        held = [f"needs what is not installed: {_install(missing)}", "the rest of the card holds", *held]
    else:
        held = ["card, adapter, options and requirements hold", *held]
    return Check("system", spec.name, None, "; ".join([*held, "not run"]), missing=missing)


def _held(spec: SystemSpec) -> list[str]:
    """What is known of a system whose adapter can be imported, takes the card's options, and builds its networks."""
    from diarbench.execute.looking import look_at

    counted = importlib.util.find_spec("torch") is not None or "torch" in distribution_names(spec.card.requires)
    networks = look_at(find_adapter(spec), spec.options, networks=counted)
    said = []
    if networks:
        unique = {id(one): one.numel() for network in networks.values() for one in network.module.parameters()}
        said.append(f"{sum(unique.values()):,} parameters in {', '.join(networks)}")
    return said + [_source(name, source) for name, source in spec.card.weights.items()]


def _source(name: str, source: Weights) -> str:
    """Where weights would come from, in a few words."""
    if source.hub is None:
        return f"weights {name} from {source.wheel or source.path}"
    pinned = "" if source.pinned else ", not pinned"
    return f"weights {name} from {source.hub} ({source.licence or 'no licence in the card'}{pinned})"


def _try(spec: SystemSpec, folder: Path, weights: Path | None) -> Check:
    """Run the system on a few seconds through the same door as a benchmark."""
    from diarbench.execute import execute

    dataset = _excerpt(folder)
    jobs = plan([spec], [dataset], device="auto", threads=1, limit=None, weights=weights)
    notes = tuple(dict.fromkeys(note for job in jobs for note in job.system.notes))
    outcome = execute(jobs, root=folder / "runs", machine="check", machine_facts={}, progress=_Silent())
    if outcome.failures:
        return Check("system", spec.name, outcome.failures[0].split(": ", 1)[1], notes=notes)
    results = outcome.folders[spec.name, dataset.name]
    turns = results.hypothesis("excerpt")
    end = float(turns.ends.max()) if len(turns) else 0.0
    if end > _LENGTH + _OVERSHOOT:
        notes += (f"{spec.name}: turns end at {end:g} s, the recording at {_LENGTH:g} s",)
    for start in results.sessions[-1].get("turns_start", {}).values():
        notes += (f"{spec.name}: turns start at {start:g} s, before the recording; they are cut off at 0 s",)
    result = results.result("excerpt")
    timing = result["timing"] if result else None
    took = f" in {timing['wall']:.2f} s" if timing else ""
    summary = f"{len(turns)} turns of {len(turns.labels)} speakers{took}, {_LENGTH:g} s of audio"
    return Check("system", spec.name, None, summary, notes)


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
            parse_rule(rule)
        dataset = load_dataset(name, path, card)
    except DiarbenchError as error:
        return Check("dataset", name, str(error))
    if said := mismatches(dataset.recordings, card.expect):
        return Check("dataset", name, "; ".join(said), notes=dataset.notes)
    facts = facts_of(dataset.recordings)
    summary = f"{facts.recordings} recordings, {facts.hours:.2f} hours, {facts.speakers} speakers"
    return Check("dataset", name, None, summary, dataset.notes)


def _check_report(registry: Registry, name: str) -> Check:
    try:
        _, card = registry.choose_report(name)
        parse_rule(card.rule)
        systems = registry.choose_systems(card.systems)
        datasets = registry.choose_datasets(card.datasets)
    except DiarbenchError as error:
        return Check("report", name, str(error))
    return Check("report", name, None, f"{len(systems)} systems, {len(datasets)} datasets")


def _check_published(registry: Registry, name: str) -> Check:
    path = Path(name) if name.endswith(".toml") else registry.published[name]
    try:
        table = read_published(path)
    except DiarbenchError as error:
        return Check("published", path.stem, str(error))
    figures = sum(1 for _ in table.figures())
    return Check("published", table.name, None, f"{figures} figures of {table.card.source.short}")
