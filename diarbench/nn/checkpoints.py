"""Checkpoint files into plain tensors, without running anything that a file brings: torch's, Lightning's, safetensors.

torch's files are pickles, and a pickle can call any function. Here only what torch itself counts as weights is read
(`weights_only=True`), and besides that four small classes by whose names pyannote.audio's checkpoints describe
themselves, for which plain stand-ins are made: nothing of pyannote is imported.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from diarbench.errors import InputError, MissingRequirementError

# Where a state dict lies inside of other things: torch recipes, Lightning, DiariZen's stages; Resemblyzer.
_STATES = ("state_dict", "model_state")


class Problem(Enum):
    """What a pyannote model was trained for (pyannote.audio 4.0.7, core/task.py)."""

    BINARY_CLASSIFICATION = 0
    MONO_LABEL_CLASSIFICATION = 1
    MULTI_LABEL_CLASSIFICATION = 2
    REPRESENTATION = 3
    REGRESSION = 4


class Resolution(Enum):
    """What a pyannote model gives one output for (pyannote.audio 4.0.7, core/task.py)."""

    FRAME = 1
    CHUNK = 2


@dataclass
class Specifications:
    """What a pyannote checkpoint says of its model; durations in seconds. The defaults are pyannote.audio 4.0.7's."""

    problem: Problem
    resolution: Resolution
    duration: float
    min_duration: float | None = None
    warm_up: tuple[float, float] | None = (0.0, 0.0)
    classes: list[str] | None = None
    powerset_max_classes: int | None = None
    permutation_invariant: bool = False


def _member(owner: object, name: object) -> Enum:
    """In place of `getattr`, by which some Pythons (3.11.2) pickle members of an enumeration: ours, and no more."""
    if isinstance(owner, type) and issubclass(owner, Problem | Resolution) and isinstance(name, str):
        return owner[name]
    raise pickle.UnpicklingError("GLOBAL builtins.getattr")


class _Version(str):
    """A version that is more than a text in torch."""

    __slots__ = ()


_KNOWN: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (Problem, "pyannote.audio.core.task.Problem"),
    (Resolution, "pyannote.audio.core.task.Resolution"),
    (Specifications, "pyannote.audio.core.task.Specifications"),
    (_Version, "torch.torch_version.TorchVersion"),
    (_member, "builtins.getattr"),
]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that a `.bin`, `.pt`, `.pth`, `.ckpt` or `.safetensors` file holds, on the CPU.

    In a Lightning checkpoint of pyannote.audio, `["pyannote.audio"]["specifications"]` is a `Specifications`. Raises
    InputError, in one line, for a file that is damaged, cut short or none of these, and for one with objects that are
    no weights: these are not loaded, and nothing of them is run. MissingRequirementError where it is not there.
    """
    if not path.is_file():
        raise MissingRequirementError(f"{path}: no such weight file")
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__} where weights by name should be")
    return dict(content)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint: the whole file, or what it has under "state_dict" or "model_state".

    Raises as `read_checkpoint`, and InputError where something in it is no tensor.
    """
    content = read_checkpoint(path)
    state: Mapping[str, Any] = next((content[key] for key in _STATES if isinstance(content.get(key), Mapping)), content)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path}: no state dict: its {name!r} is a {type(value).__name__}, not a tensor")
    if not state:
        raise InputError(f"{path}: holds no weights")
    return dict(state)


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingRequirementError(f"{path}: reading it needs safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _torch(path: Path) -> Any:
    _check_sums(path)
    try:
        with safe_globals(_KNOWN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"(?:GLOBAL ([\w.]+)|(?:class|function|type) ([\w.]*\w\.\w+))", str(error))
        if foreign is None:
            raise _damaged(path, error) from error
        raise InputError(
            f"{path}: holds {foreign[1] or foreign[2]}, which is no weights, and loading such objects runs their code; "
            "it is not loaded. If you trust where it comes from, save its state_dict alone"
        ) from error
    except Exception as error:  # torch meets damaged files with errors of a dozen kinds
        raise _damaged(path, error) from error


def _check_sums(path: Path) -> None:
    """torch's files are zip archives, which know the checksum of each part; torch reads past a flipped bit."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:
        raise _damaged(path, error) from error
    if broken is not None:
        raise _damaged(path, ValueError(f"the checksum of {broken} is wrong"))


def _damaged(path: Path, error: Exception) -> InputError:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
    return InputError(
        f"{path}: damaged, cut short, or no checkpoint ({type(error).__name__}: {said[:120]}); get it again"
    )
