"""A folder of DiariZen's as its repositories on the hub are laid out: config.toml, pytorch_model.bin, plda/.

What config.toml says is read strictly: a key that is not known, or a value that would mean another network or
pipeline, is an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diarbench.errors import InputError, MissingRequirementError, NotFoundError, did_you_mean
from diarbench.nn.conformer import HeadShape
from diarbench.nn.structures import Structure, named_structure, read_structure
from diarbench.pipelines.eend_recipes import DIARIZEN, Ahc, Recipe, Vbx

WEIGHTS = "pytorch_model.bin"
_CONFIG, _STRUCTURE, _PLDA = "config.toml", "structure.json", "plda"
_MODEL = "diarizen.models.eend.model_wavlm_conformer.Model"

# [model.args]: what DiariZen's code takes where a key is absent. The first group makes the head's shape.
_HEAD = {
    "attention_in": ("units", 256),
    "ffn_hidden": ("feed_forward", 1024),
    "num_head": ("heads", 4),
    "num_layer": ("blocks", 4),
    "kernel_size": ("kernel", 31),
    "max_speakers_per_chunk": ("speakers", 4),
    "max_speakers_per_frame": ("overlap", 2),
}
_FIXED = {"use_posi": False, "output_activate_function": False, "sample_rate": 16000}  # another value: another network
_UNUSED = {"dropout", "chunk_size", "selected_channel", "num_channels"}  # training's, and the harness's choice
_ARGUMENTS = {"wavlm_src", "wavlm_layer_num", "wavlm_feat_dim", *_HEAD, *_FIXED, *_UNUSED}
_INFERENCE = {"seg_duration", "segmentation_step", "batch_size", "apply_median_filtering"}
# Of either method; as in DiariZen, what the other one would read is passed over.
_CLUSTERING = {
    *("method", "min_speakers", "max_speakers", "ahc_threshold"),
    *("ahc_criterion", "Fa", "Fb", "lda_dim", "max_iters", "min_cluster_size"),
}


@dataclass(frozen=True, slots=True)
class DiarizenFolder:
    """What a folder of DiariZen's says of its model."""

    folder: Path
    structure: Structure
    shape: HeadShape
    recipe: Recipe | None  # window, clustering and rules; None where config.toml doesn't say (before May 2025)

    @property
    def weights(self) -> Path:
        """The file of the network's weights."""
        return self.folder / WEIGHTS

    @property
    def plda(self) -> Path | None:
        """The folder of the PLDA model, where there is one."""
        place = self.folder / _PLDA
        return place if place.is_dir() else None


def read_diarizen(folder: Path) -> DiarizenFolder:
    """What the folder's config.toml says; weights are not looked at.

    `wavlm_src` names a structure that diarbench knows (`diarbench.nn.structures`); where a structure.json lies beside,
    that holds instead: models of one's own were pruned like no other. Raises MissingRequirementError where there is no
    config.toml, InputError where something in it is unknown or can't be.
    """
    path = folder / _CONFIG
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingRequirementError(
            f"{path}: can't be read ({error.strerror}); a DiariZen model is a folder with {_CONFIG} and {WEIGHTS}"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    model = _table(config, "model", path)
    if model.get("path") != _MODEL:
        raise InputError(f"{path}: [model] path is {model.get('path')!r}; only {_MODEL} can be loaded")
    arguments = _table(model, "args", path, _ARGUMENTS, name="model.args")
    structure = _structure(arguments, folder, path)
    sizes = {ours: _whole(arguments, key, path, absent) for key, (ours, absent) in _HEAD.items()}
    try:
        shape = HeadShape(**sizes)
    except InputError as error:
        raise InputError(f"{path}: [model.args]: {error}") from error
    try:
        recipe = _recipe(config, path) if "inference" in config or "clustering" in config else None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return DiarizenFolder(folder, structure, shape, recipe)


def _structure(arguments: Mapping[str, Any], folder: Path, path: Path) -> Structure:
    for key, wanted in _FIXED.items():
        if arguments.get(key, wanted) != wanted:
            raise InputError(f"{path}: {key} is {arguments[key]!r}; only {wanted!r} can be run")
    own, source = folder / _STRUCTURE, arguments.get("wavlm_src", "wavlm_base")
    try:
        structure = read_structure(own) if own.is_file() else named_structure(str(source))
    except NotFoundError as error:
        raise InputError(f"{path}: wavlm_src: {error}; for one of your own, put its {_STRUCTURE} beside") from None
    shown = own.name if own.is_file() else source
    for key, absent, found in (
        ("wavlm_layer_num", 13, structure.layers + 1),
        ("wavlm_feat_dim", 768, structure.width),
    ):
        if arguments.get(key, absent) != found:
            raise InputError(f"{path}: {key} is {arguments.get(key, absent)!r}, but of {shown} it is {found}")
    return structure


def _recipe(config: Mapping[str, Any], path: Path) -> Recipe:
    inference = _table(_table(config, "inference", path), "args", path, _INFERENCE, name="inference.args")
    clustering = _table(config, "clustering", path)
    chosen = _table(clustering, "args", path, _CLUSTERING, name="clustering.args")
    method = chosen.get("method")
    if method not in ("VBxClustering", "AgglomerativeClustering"):
        raise InputError(f"{path}: method is {method!r}, not VBxClustering or AgglomerativeClustering")
    window = _number(inference, "seg_duration", path)
    median = inference.get("apply_median_filtering", True)
    if not isinstance(median, bool):
        raise InputError(f"{path}: apply_median_filtering is true or false, not {median!r}")
    return Recipe(
        _vbx(chosen, path) if method == "VBxClustering" else _ahc(chosen, path),
        DIARIZEN if median else replace(DIARIZEN, median_frames=1),
        window=window,
        hop=_number(inference, "segmentation_step", path, 0.1) * window,
        min_speakers=_whole(chosen, "min_speakers", path, 1),
        max_speakers=_whole(chosen, "max_speakers", path, 20),
    )


def _vbx(chosen: Mapping[str, Any], path: Path) -> Vbx:
    for key, wanted in (("ahc_criterion", "distance"), ("max_iters", 20)):
        if chosen.get(key, wanted) != wanted:
            raise InputError(f"{path}: {key} is {chosen[key]!r}; only {wanted!r} can be run")
    return Vbx(
        threshold=_number(chosen, "ahc_threshold", path),
        fa=_number(chosen, "Fa", path),
        fb=_number(chosen, "Fb", path),
        lda_dimension=_whole(chosen, "lda_dim", path, 128),
    )


def _ahc(chosen: Mapping[str, Any], path: Path) -> Ahc:
    size = _whole(chosen, "min_cluster_size", path)
    return Ahc(threshold=_number(chosen, "ahc_threshold", path), min_cluster_size=size)


def _table(
    config: Mapping[str, Any], key: str, path: Path, known: set[str] | None = None, *, name: str = ""
) -> Mapping[str, Any]:
    """A table inside a table, with none but known keys."""
    table = config.get(key)
    if not isinstance(table, dict):
        raise InputError(f"{path}: there is no table [{name or key}]")
    for inside in table:
        if known is not None and inside not in known:
            raise InputError(f"{path}: [{name or key}]: unknown key {inside}{did_you_mean(inside, known)}")
    return table


def _number(table: Mapping[str, Any], key: str, path: Path, absent: float | None = None) -> float:
    value = table.get(key, absent)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path}: {key} is {'missing' if value is None else f'no number, but {value!r}'}")
    return float(value)


def _whole(table: Mapping[str, Any], key: str, path: Path, absent: int | None = None) -> int:
    value = table.get(key, absent)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{path}: {key} is {'missing' if value is None else f'no whole number, but {value!r}'}")
    return value
