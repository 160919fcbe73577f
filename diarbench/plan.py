"""From cards to jobs, as plain data: which system runs on which recordings, where, and under which run key."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement

import diarbench
from diarbench.cards import DatasetCard, SystemSpec
from diarbench.errors import CardError, DiarbenchError, InputError, MissingRequirementError
from diarbench.files import digest_of, sha256_of
from diarbench.loaders import Dataset, data_roots
from diarbench.types import Recording
from diarbench.weights import Found, check_folder, find_weights, folder_digests

Device = Literal["cpu", "cuda"]

_REPLAY = "diarbench.adapters:Replay"
_ANY = "hypotheses"  # what a replay's one folder for all datasets is called, and what the adapter is given

_NO_GPU = "--device cuda: no NVIDIA GPU with a driver is found here; use --device cpu or auto"


@dataclass(frozen=True)
class Adapter:
    """Where a system's code is: a file beside the card, or an importable module; and the class in it."""

    file: Path | None
    module: str | None
    attribute: str


@dataclass(frozen=True)
class Prepared:
    """A system that is ready to be built: everything it needs found, or the reason why not."""

    spec: SystemSpec
    adapter: Adapter
    weights: Mapping[str, Path]
    files: Mapping[str, Path]
    identity: Mapping[str, Any]  # what its results depend on, as digests and versions
    problem: str | None  # why it can't run here
    notes: tuple[str, ...] = ()  # what the user should know of its weights: their licences, and what pins them


@dataclass(frozen=True)
class Job:
    """One system on one dataset, at one place."""

    system: Prepared
    dataset: Dataset
    recordings: tuple[Recording, ...]  # those that are asked for: all, or the first few
    device: Device
    threads: int

    @property
    def identity(self) -> dict[str, Any]:
        """What the results depend on; changed things are other runs."""
        return {
            "system": dict(self.system.identity),
            "dataset": self.dataset.digest,
            "device": self.device,
            "threads": self.threads,
        }

    @property
    def key(self) -> str:
        """The run key: a digest of the identity."""
        return digest_of(self.identity)[:12]


def plan(
    systems: Sequence[SystemSpec],
    datasets: Sequence[Dataset],
    *,
    device: str,
    threads: int,
    limit: int | None,
    weights: Path | None = None,
) -> list[Job]:
    """All jobs, ordered by system. `device` "auto" means the GPU where there is one and the system can use it;
    `weights` is a folder in which weights are looked for first.

    Of a replay whose card names a folder for each dataset, each job has that dataset's alone. Raises CardError for a
    card that contradicts itself; a system that lacks something is planned with its problem, so that the others go on.
    Raises InputError where a GPU is asked for and there is none, or `weights` is no
    folder.
    """
    from diarbench.measure.machine import gpus

    has_gpu = bool(gpus()) if device != "cpu" else False
    if device == "cuda" and not has_gpu:
        raise InputError(_NO_GPU)
    jobs = []
    for spec in systems:
        on: Device = "cuda" if has_gpu and "cuda" in spec.card.devices else "cpu"
        by_dataset = is_replay(spec) and _ANY not in spec.card.files
        once = None if by_dataset else _placed(prepare(spec, weights), on)
        for dataset in datasets:
            prepared = once or _placed(_prepare_replay(spec, dataset.name), on)
            recordings = tuple(labelled.recording for labelled in dataset.recordings)[:limit]
            jobs.append(Job(prepared, dataset, recordings, on, threads))
    return jobs


def is_replay(spec: SystemSpec) -> bool:
    """Whether it is stored outputs (`Replay`), which need no audio."""
    return spec.card.adapter == _REPLAY


def without_audio(card: DatasetCard) -> DatasetCard | None:
    """The dataset as it is read where nothing needs its audio: its references and regions, and so the same digest.

    None where only the audio tells what is scored, or where the layout always says where audio is.
    """
    if card.uem == "whole-file":
        return None
    for name in ("folder", "kaldi", "pyannote"):
        layout = getattr(card, name)
        if layout is not None:
            return card.model_copy(update={name: layout.model_copy(update={"audio": "none"})})
    return None


def _placed(prepared: Prepared, on: Device) -> Prepared:
    devices = prepared.spec.card.devices
    if on in devices or prepared.problem is not None:
        return prepared
    return replace(prepared, problem=f"runs on {devices[0]} only, not on the {on}")


def _prepare_replay(spec: SystemSpec, dataset: str) -> Prepared:
    """A replay as it is of one dataset: with the outputs that its card names for it, whatever else is there."""
    place = {dataset: spec.card.files[dataset]} if dataset in spec.card.files else {}
    prepared = prepare(spec.model_copy(update={"card": spec.card.model_copy(update={"files": place})}))
    problem = prepared.problem
    if not place:
        problem = f'no outputs of {dataset}: its card\'s [files] lacks {dataset} = "a folder of RTTM, or one RTTM file"'
    found = prepared.files.get(dataset)
    return replace(prepared, files={_ANY: found} if found is not None else {}, problem=problem)


def choose_device(device: str, specs: Sequence[SystemSpec]) -> Device:
    """Where these systems are timed against each other: "auto" is the GPU if there is one and all of them can use it.

    Raises InputError where one of them doesn't run on the device that is asked for, or there is no GPU.
    """
    from diarbench.measure.machine import gpus

    if device == "auto":
        device = "cuda" if gpus() and all("cuda" in spec.card.devices for spec in specs) else "cpu"
    for spec in specs:
        if device not in spec.card.devices:
            raise InputError(
                f"{spec.name} runs on {spec.card.devices[0]} only; what is timed against each other needs one device"
            )
    if device == "cuda" and not gpus():
        raise InputError(_NO_GPU)
    return "cuda" if device == "cuda" else "cpu"


def prepare(spec: SystemSpec, weights: Path | None = None) -> Prepared:
    """Find what a system needs, without importing any of it; `weights` is a folder to look into first.

    Raises CardError where the card can't be right, InputError where `weights` is no folder.
    """
    check_folder(weights)
    adapter = find_adapter(spec)
    missing = missing_requirements(spec.card.requires)
    problem = None
    found: dict[str, Found] = {}
    files: dict[str, Path] = {}
    file_digests: dict[str, str] = {}
    try:
        if missing:
            quoted = " ".join(f"'{requirement}'" for requirement in missing)
            raise MissingRequirementError(f"needs what is not installed: pip install {quoted}")
        for name, source in spec.card.weights.items():
            found[name] = find_weights(spec, name, source, weights)
        for name, place in spec.card.files.items():
            files[name], file_digests[name] = find_file(spec, name, place)
    except DiarbenchError as error:
        problem = str(error)
    identity = {
        "adapter": spec.card.adapter,
        "code": _code_digest(adapter),
        "options": spec.options,
        "weights": {name: one.digest for name, one in found.items()},
        "files": file_digests,
        "libraries": _versions(spec.card.requires),
        "diarbench": _library_digest(),
    }
    spec = spec.model_copy(update={"found": {name: dict(one.facts) for name, one in found.items()}})
    paths = {name: one.path for name, one in found.items()}
    notes = tuple(one.note for one in found.values() if one.note is not None)
    return Prepared(spec, adapter, paths, files, identity, problem, notes)


def find_adapter(spec: SystemSpec) -> Adapter:
    """The adapter that a card names. Raises CardError where the text or the file is wrong."""
    place, _, attribute = spec.card.adapter.rpartition(":")
    if not place or not attribute.isidentifier():
        raise CardError(
            f"system {spec.name}: adapter = {spec.card.adapter!r} must be './file.py:Class' or 'package.module:Class'"
        )
    if place.startswith(".") or place.endswith(".py"):
        file = spec.folder / place
        if not file.is_file():
            raise CardError(f"system {spec.name}: its adapter is not there: {file}")
        return Adapter(file, None, attribute)
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", place):
        raise CardError(f"system {spec.name}: {place!r} is no module name")
    return Adapter(None, place, attribute)


def find_file(spec: SystemSpec, name: str, place: str) -> tuple[Path, str]:
    """A local file or folder that a card names, and its digest: beside the card, in one of the data folders
    ($DIARBENCH_DATA), or absolute. Raises MissingRequirementError."""
    wanted = Path(os.path.expanduser(place))
    roots = [] if wanted.is_absolute() or place.startswith("~") else data_roots()
    for path in (spec.folder / wanted, *(root / wanted for root in roots)):
        if path.is_dir():
            return path, digest_of([list(item) for item in folder_digests(path).items()])
        if path.is_file():
            return path, sha256_of(path)
    also = f", nor in {' or '.join(map(str, roots))} (DIARBENCH_DATA)" if roots else ""
    raise MissingRequirementError(f"its file {name!r} is not there: {spec.folder / wanted}{also}")


def missing_requirements(requires: Iterable[str]) -> list[str]:
    """Those requirements that the installed distributions don't meet, markers such as `; python_version < "3.12"`
    minded. Raises CardError for one that can't be read."""
    missing = []
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise CardError(f"requires: {text!r} is not a requirement as pip reads it ({error})") from error
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(text)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing


def distribution_names(requires: Iterable[str]) -> list[str]:
    """The distributions that requirements name, numpy always among them."""
    return sorted({"numpy", *(Requirement(text).name for text in requires)})


def _versions(requires: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in distribution_names(requires):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _code_digest(adapter: Adapter) -> str:
    """Of the Python files beside the adapter; for a module, of those in its folder and of its distribution's version.

    Only the top package is looked up: finding a module inside it would import it.
    """
    if adapter.file is not None:
        folder = adapter.file.parent
        inside = [path.relative_to(folder) for path in folder.rglob("*.py")]
        # Not what is hidden: a virtual environment beside an adapter is no code of its own.
        return _digest_files([folder / path for path in sorted(inside) if not path.as_posix().startswith(".")])
    assert adapter.module is not None
    top = adapter.module.split(".")[0]
    if top == "diarbench":
        return diarbench.__version__
    owners = importlib.metadata.packages_distributions().get(top, [])
    versions = {owner: importlib.metadata.version(owner) for owner in sorted(set(owners))}
    return digest_of([versions, _digest_files(_module_files(adapter.module))])


def _module_files(module: str) -> list[Path]:
    """The Python files in the folder of a module; for a module outside of any package, its own file."""
    top, *inside = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    if not spec.submodule_search_locations:
        return [Path(spec.origin)] if spec.origin else []
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*inside)
    return sorted((folder if folder.is_dir() else folder.parent).glob("*.py"))


def _library_digest() -> str:
    """Of the parts of diarbench that a hypothesis can depend on; a change to a page is no other run."""
    package = Path(diarbench.__file__).parent
    parts = [package / "audio.py", package / "adapters.py"]
    for folder in ("nn", "pipelines"):
        parts += sorted((package / folder).rglob("*.py"))
    return _digest_files(parts)


def _digest_files(paths: Sequence[Path]) -> str:
    return digest_of([[path.name, sha256_of(path)] for path in paths if path.is_file()])
