"""Segmentation networks of pyannote.audio from its checkpoints, read without running anything that is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.segmentation import PyanNet
from torch import Tensor

from diarbench.errors import InputError, did_you_mean
from diarbench.measure import Network
from diarbench.nn import checkpoints
from diarbench.nn.checkpoints import read_checkpoint
from diarbench.nn.weights import load_exactly
from diarbench.pipelines.eend_system import SAMPLE_RATE, Stage
from diarbench.types import Seconds

PARTS = {"SincNet": ("sincnet",), "LSTM": ("lstm",), "linear": ("linear", "classifier")}  # paths of submodules
SPEAKERS = 3  # in a window, of all that pyannote published
_LSTM = {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "monolithic": True, "dropout": 0.5}
_SHAPES = ("sincnet", "lstm", "linear")  # what a PyanNet's checkpoint says of its sizes
_LOSS = "loss_func."  # weights of a loss, which some files hold besides


def pyannet_stage(file: Path) -> Stage:
    """The PyanNet in a `pytorch_model.bin` of pyannote's, ready for inference; pyannote.audio's own class.

    Raises MissingRequirementError where the file is not there or its weights don't fit what it says of itself,
    InputError where it is damaged, holds strange objects, or is another network.
    """
    content = read_checkpoint(file)
    about, sizes, state = (content.get(key) for key in ("pyannote.audio", "hyper_parameters", "state_dict"))
    if not (isinstance(about, Mapping) and isinstance(sizes, Mapping) and isinstance(state, Mapping)):
        raise InputError(f"{file}: no checkpoint of pyannote.audio: it doesn't say what network it is")
    architecture = about.get("architecture")
    name = architecture.get("class") if isinstance(architecture, Mapping) else None
    if name != "PyanNet":
        raise InputError(
            f"{file}: holds a network {name!r}; of pyannote.audio's segmentation networks, only PyanNet runs"
        )
    known = (*_SHAPES, "sample_rate", "num_channels")
    for key in sizes:
        if key not in known:
            raise InputError(f"{file}: unknown hyper-parameter {key!r}{did_you_mean(str(key), known)}")
    model = _pyannet({key: sizes[key] for key in _SHAPES if key in sizes}, _specifications(about, file), file)
    tensors = {key: tensor for key, tensor in state.items() if not key.startswith(_LOSS)}
    if strange := [key for key, tensor in tensors.items() if not isinstance(tensor, Tensor)]:
        raise InputError(f"{file}: {strange[0]!r} in its state_dict is no tensor")
    load_exactly(model, tensors, file)
    return Stage(model, model)


def pyannet_network(*, overlap: int, window: Seconds | None) -> Network:
    """The same for counting, in the sizes of all that pyannote published; `overlap` 0: no powerset."""
    specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION if overlap else Problem.MULTI_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0 if window is None else float(window),
        classes=[f"speaker{number + 1}" for number in range(SPEAKERS)],
        powerset_max_classes=overlap or None,
        permutation_invariant=True,
    )

    def inputs(batch: int, seconds: Seconds) -> tuple[Tensor, ...]:
        return (torch.randn(batch, 1, round(SAMPLE_RATE * seconds)),)

    model = _pyannet({"lstm": _LSTM}, specifications, Path("PyanNet"))
    return Network(model.requires_grad_(False), inputs, window, PARTS)


def _pyannet(sizes: Mapping[str, Any], specifications: Specifications, file: Path) -> PyanNet:
    try:
        model = PyanNet(**{name: dict(size) for name, size in sizes.items()})
        model.specifications = specifications
        model.build()
    except (TypeError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{file}: no PyanNet can be built as it says: {' '.join(str(error).split())}") from error
    return model.eval()


def _specifications(about: Mapping[str, Any], file: Path) -> Specifications:
    """pyannote.audio's own object for what the checkpoint reader has a stand-in for."""
    said = about.get("specifications")
    if not isinstance(said, checkpoints.Specifications) or not said.classes or not said.duration > 0:
        raise InputError(f"{file}: doesn't say which speakers, in windows of which duration, its network tells apart")
    return Specifications(
        problem=Problem[said.problem.name],
        resolution=Resolution[said.resolution.name],
        duration=said.duration,
        min_duration=said.min_duration,
        warm_up=said.warm_up,
        classes=said.classes,
        powerset_max_classes=said.powerset_max_classes,
        permutation_invariant=said.permutation_invariant,
    )
