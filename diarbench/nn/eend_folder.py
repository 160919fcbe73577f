"""An EEND network of one's own as a folder: model.json, structure.json, model.safetensors.

model.json          "format": 1
                    "front_end": "wavlm", or "fbank" (then there is no structure.json)
                    "head": the fields of HeadShape, the speakers and overlaps of its classes among them
                    "window": s of audio that it was trained on
                    "training": facts about how it was made, for people
                    "sha256": of model.safetensors, so that a damaged one is noticed
structure.json      what was kept of WavLM: `diarbench.nn.structures`
model.safetensors   the state dict by diarbench's own names, float32
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from diarbench.errors import InputError, MissingRequirementError, did_you_mean
from diarbench.files import write_json, write_whole
from diarbench.nn.checkpoints import read_state
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.fbank import FbankEend
from diarbench.nn.structures import Structure, read_structure
from diarbench.nn.weights import load_exactly
from diarbench.types import Seconds

FORMAT = 1
FRONT_ENDS = ("wavlm", "fbank")
_MODEL, _STRUCTURE, _WEIGHTS = "model.json", "structure.json", "model.safetensors"
_KEYS = {"format", "front_end", "head", "window", "training", "sha256"}


@dataclass(frozen=True, slots=True)
class EendFolder:
    """What the folder says of a network, and the network itself, ready for inference and folded."""

    network: Eend | FbankEend
    structure: Structure | None  # of WavLM; None where the front end is another
    shape: HeadShape
    window: Seconds
    training: Mapping[str, Any]


def save_eend(
    folder: Path, network: Eend | FbankEend, *, window: Seconds, training: Mapping[str, Any] | None = None
) -> Path:
    """Write a network into a folder; model.json comes last: without it, the folder is none.

    `training` is kept as it is, JSON. Raises StoreError where it can't be written, ValueError where `training` is no
    JSON, MissingRequirementError without safetensors.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingRequirementError("writing model.safetensors needs safetensors: pip install safetensors") from error
    with torch.no_grad():
        state = {name: tensor.float().cpu().contiguous() for name, tensor in network.state_dict().items()}
    content = save({name: tensor.clone() for name, tensor in state.items()})
    (folder / _MODEL).unlink(missing_ok=True)
    write_whole(folder / _WEIGHTS, content)
    if isinstance(network, Eend):
        write_whole(folder / _STRUCTURE, network.wavlm.structure.to_json())
    said = {
        "format": FORMAT,
        "front_end": "wavlm" if isinstance(network, Eend) else "fbank",
        "head": asdict(network.head.shape),
        "window": window,
        "training": dict(training or {}),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_json(folder / _MODEL, said)
    return folder


def load_eend(folder: Path) -> EendFolder:
    """The network in a folder that `save_eend` wrote.

    Raises MissingRequirementError where there is no such folder or its weights don't fit what it says, InputError
    where what it says can't be, or weights are damaged: one line.
    """
    path = folder / _MODEL
    said = _read(path)
    shape, window = head_shape(said["head"], path), said["window"]
    if isinstance(window, bool) or not isinstance(window, int | float) or not window > 0:
        raise InputError(f"{path}: window is in seconds, above 0, not {window!r}")
    weights = folder / _WEIGHTS
    state = read_state(weights)
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != said["sha256"]:
            raise InputError(f"{weights}: damaged, or another network's: its SHA-256 is not the one in {_MODEL}")
    if said["front_end"] == "fbank":
        fbank = load_exactly(FbankEend(shape), state, weights)
        return EendFolder(fbank, None, shape, float(window), said["training"])
    structure = read_structure(folder / _STRUCTURE)
    with torch.device("meta"):
        eend = Eend(structure, shape)
    return EendFolder(load_exactly(eend, state, weights).fold(), structure, shape, float(window), said["training"])


def head_shape(values: Any, where: Path | str) -> HeadShape:
    """The head that a table describes; `where` is named in errors (InputError)."""
    known = [field.name for field in fields(HeadShape)]
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: head is a table of {', '.join(known)}, not {values!r}")
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: head: unknown key {key!r}{did_you_mean(str(key), known)}")
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{where}: head: {key} is a whole number, not {value!r}")
    try:
        return HeadShape(**values)
    except InputError as error:
        raise InputError(f"{where}: head: {error}") from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingRequirementError(
            f"{path}: can't be read ({error.strerror}); a network of diarbench's is a folder with {_MODEL}, "
            f"{_STRUCTURE} and {_WEIGHTS}"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: no JSON: {error}") from error
    if not isinstance(said, dict):
        raise InputError(f"{path}: holds no object of JSON")
    if said.get("format") != FORMAT:
        raise InputError(f"{path}: format {said.get('format')!r} is not {FORMAT}, the one that this version reads")
    for key in sorted(set(said) - _KEYS):
        raise InputError(f"{path}: unknown key {key}{did_you_mean(key, _KEYS)}")
    if missing := sorted(_KEYS - set(said)):
        raise InputError(f"{path}: lacks {', '.join(missing)}")
    if said["front_end"] not in FRONT_ENDS:
        raise InputError(f"{path}: front_end is {said['front_end']!r}, not wavlm or fbank")
    return said
