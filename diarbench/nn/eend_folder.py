"""An EEND network of one's own as a folder: model.json, structure.json, model.safetensors.

model.json          "format": 1
                    "front_end": "wavlm", or "fbank" or "pyannet" (then there is no structure.json)
                    "head": the fields of HeadShape, the speakers and overlaps of its classes among them; of a PyanNet,
                    those of PyanNetShape
                    "window": s of audio that it was trained on
                    "training": facts about how it was made, for people
                    "sha256": of model.safetensors, so that a damaged one is noticed
                    "quantization", where it is quantized: {"mode": "w8a8-dynamic", "group": weights that share a
                    scale or 0, "covers", "skip", "method": "ptq" or "qat", "modules": the paths that were covered}
structure.json      what was kept of WavLM: `diarbench.nn.structures`
model.safetensors   the state dict by diarbench's own names, float32, or large matrices float16 (to save room: they are
                    float32 again once loaded); of a quantized module's weight, its codes (int8, or 4-bit ones two to a
                    byte, row by row, the first one low) and scales (rows, groups), or 16-bit floating-point values; of
                    calibrated inputs, scale and zero point
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from diarbench.errors import InputError, MissingRequirementError, did_you_mean
from diarbench.files import write_json, write_whole
from diarbench.nn.checkpoints import read_state
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.fbank import FbankEend
from diarbench.nn.packing import serialized, unpacked_state
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantized import install, quantization_in
from diarbench.nn.quantmodes import Quantization, quantization_of_table
from diarbench.nn.structures import Structure, read_structure
from diarbench.nn.weights import load_exactly
from diarbench.types import Seconds

FORMAT = 1
FRONT_ENDS = ("wavlm", "fbank", "pyannet")
EendNetwork = Eend | FbankEend | PyanNet
_MODEL, _STRUCTURE, _WEIGHTS = "model.json", "structure.json", "model.safetensors"
Shape = TypeVar("Shape", HeadShape, PyanNetShape)
_KEYS = {"format", "front_end", "head", "window", "training", "sha256"}
_QUANTIZATION = "quantization"


@dataclass(frozen=True, slots=True)
class EendFolder:
    """What the folder says of a network, and the network itself, ready for inference and folded."""

    network: EendNetwork
    structure: Structure | None  # of WavLM; None where the front end is another
    shape: HeadShape | PyanNetShape
    window: Seconds
    training: Mapping[str, Any]
    quantization: Quantization | None = None

    @property
    def front_end(self) -> str:
        """Among FRONT_ENDS."""
        return front_end_of(self.network)


def save_eend(
    folder: Path,
    network: EendNetwork,
    *,
    window: Seconds,
    training: Mapping[str, Any] | None = None,
    halves: bool = False,
) -> Path:
    """Write a network, quantized or not, into a folder; model.json comes last: without it, the folder is none.

    `training` is kept as it is, JSON. `halves` stores large float32 matrices as float16. Raises StoreError where it
    can't be written, ValueError where `training` is no JSON, InputError for weights that float16 can't hold,
    MissingRequirementError without safetensors.
    """
    content = serialized(network, halves=halves)
    (folder / _MODEL).unlink(missing_ok=True)
    write_whole(folder / _WEIGHTS, content)
    if isinstance(network, Eend):
        write_whole(folder / _STRUCTURE, network.wavlm.structure.to_json())
    said = {
        "format": FORMAT,
        "front_end": front_end_of(network),
        "head": asdict(network.shape if isinstance(network, PyanNet) else network.head.shape),
        "window": window,
        "training": dict(training or {}),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if (quantization := quantization_in(network)) is not None:
        said[_QUANTIZATION] = quantization.as_table()
    write_json(folder / _MODEL, said)
    return folder


def load_eend(folder: Path) -> EendFolder:
    """The network in a folder that `save_eend` wrote.

    Raises MissingRequirementError where there is no such folder or its weights don't fit what it says, InputError
    where what it says can't be, or weights are damaged: one line.
    """
    path = folder / _MODEL
    said = _read(path)
    shape, window = shape_of(said["front_end"], said["head"], path), said["window"]
    if isinstance(window, bool) or not isinstance(window, int | float) or not window > 0:
        raise InputError(f"{path}: window is in seconds, above 0, not {window!r}")
    weights = folder / _WEIGHTS
    state = read_state(weights)
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != said["sha256"]:
            raise InputError(f"{weights}: damaged, or another network's: its SHA-256 is not the one in {_MODEL}")
    quantization = quantization_of_table(said[_QUANTIZATION], path) if _QUANTIZATION in said else None
    structure = read_structure(folder / _STRUCTURE) if said["front_end"] == "wavlm" else None
    network = _empty(structure, shape)
    if quantization is not None:
        install(network, quantization, path)
    load_exactly(network, unpacked_state(network, state, weights), weights)
    if isinstance(network, Eend):
        network.fold()
    return EendFolder(network, structure, shape, float(window), said["training"], quantization)


def front_end_of(network: EendNetwork) -> str:
    """Among FRONT_ENDS."""
    return "wavlm" if isinstance(network, Eend) else "fbank" if isinstance(network, FbankEend) else "pyannet"


def _empty(structure: Structure | None, shape: HeadShape | PyanNetShape) -> EendNetwork:
    if isinstance(shape, PyanNetShape):
        return PyanNet(shape)
    if structure is None:
        return FbankEend(shape)
    with torch.device("meta"):
        return Eend(structure, shape)


def shape_of(front_end: str, values: Any, where: Path | str) -> HeadShape | PyanNetShape:
    """The shape that a table describes, of a network with that front end; `where` is named in errors (InputError)."""
    return pyannet_shape(values, where) if front_end == "pyannet" else head_shape(values, where)


def head_shape(values: Any, where: Path | str) -> HeadShape:
    """The head that a table describes; `where` is named in errors (InputError)."""
    return _shape(HeadShape, values, where, lists=())


def pyannet_shape(values: Any, where: Path | str) -> PyanNetShape:
    """The PyanNet that a table describes; `where` is named in errors (InputError)."""
    return _shape(PyanNetShape, values, where, lists=("lstm", "linear"))


def _shape(kind: type[Shape], values: Any, where: Path | str, *, lists: tuple[str, ...]) -> Shape:
    known = [field.name for field in fields(kind)]
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: head is a table of {', '.join(known)}, not {values!r}")
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: head: unknown key {key!r}{did_you_mean(str(key), known)}")
        numbers = list(value) if key in lists and isinstance(value, list | tuple) else [value]
        if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers) or (
            key in lists and numbers == [value]
        ):
            raise InputError(f"{where}: head: {key} is {_what(key in lists)}, not {value!r}")
        chosen[key] = tuple(numbers) if key in lists else value
    try:
        return kind(**chosen)
    except InputError as error:
        raise InputError(f"{where}: head: {error}") from None


def _what(several: bool) -> str:
    return "a list of whole numbers" if several else "a whole number"


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
    for key in sorted(set(said) - _KEYS - {_QUANTIZATION}):
        raise InputError(f"{path}: unknown key {key}{did_you_mean(key, {*_KEYS, _QUANTIZATION})}")
    if missing := sorted(_KEYS - set(said)):
        raise InputError(f"{path}: lacks {', '.join(missing)}")
    if said["front_end"] not in FRONT_ENDS:
        raise InputError(f"{path}: front_end is {said['front_end']!r}, not wavlm, fbank or pyannet")
    return said
