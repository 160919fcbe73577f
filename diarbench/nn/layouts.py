"""How others call the weights of a WavLM: Hugging Face's, torchaudio's and DiariZen's state dicts, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from diarbench.errors import InputError, MissingRequirementError
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import WavLM
from diarbench.nn.weights import load_exactly

LAYOUTS = ("hugging-face", "torchaudio", "diarizen")

# Our names (regular expressions) and theirs, from the beginning; the first that fits counts. All three call the
# modules alike; they differ in what lies in what, as the prefixes below say.
_RULES = (
    (r"extractor\.scale$", "feature_extractor.dummy_weight"),
    (r"extractor\.layers\.(\d+)\.conv\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"extractor\.layers\.(\d+)\.norm\.", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"encoder\.projection_norm\.", "{projection}layer_norm."),
    (r"encoder\.projection\.", "{projection}projection."),
    (r"encoder\.position\.bias$", "{transformer}pos_conv_embed.conv.bias"),
    (r"encoder\.position\.gain$", "{transformer}pos_conv_embed.conv.{gain}"),
    (r"encoder\.position\.direction$", "{transformer}pos_conv_embed.conv.{direction}"),
    (r"encoder\.norm\.", "{transformer}layer_norm."),
    (r"encoder\.relative\.weight$", "{transformer}layers.0.attention.rel_attn_embed.weight"),
    (r"encoder\.layers\.(\d+)\.attention\.query\.", r"{transformer}layers.\1.attention.q_proj."),
    (r"encoder\.layers\.(\d+)\.attention\.key\.", r"{transformer}layers.\1.attention.k_proj."),
    (r"encoder\.layers\.(\d+)\.attention\.value\.", r"{transformer}layers.\1.attention.v_proj."),
    (r"encoder\.layers\.(\d+)\.attention\.output\.", r"{transformer}layers.\1.attention.out_proj."),
    (r"encoder\.layers\.(\d+)\.attention\.gate\.", r"{transformer}layers.\1.attention.gru_rel_pos_linear."),
    (r"encoder\.layers\.(\d+)\.attention\.gate_scale$", r"{transformer}layers.\1.attention.gru_rel_pos_const"),
    (r"encoder\.layers\.(\d+)\.attention_norm\.", r"{transformer}layers.\1.layer_norm."),
    (r"encoder\.layers\.(\d+)\.feed_forward_norm\.", r"{transformer}layers.\1.final_layer_norm."),
    (r"encoder\.layers\.(\d+)\.feed_forward\.inner\.", r"{transformer}layers.\1.feed_forward.intermediate_dense."),
    (r"encoder\.layers\.(\d+)\.feed_forward\.outer\.", r"{transformer}layers.\1.feed_forward.output_dense."),
)
_PLACES = {
    "hugging-face": {"projection": "feature_projection.", "transformer": "encoder."},
    "torchaudio": {"projection": "encoder.feature_projection.", "transformer": "encoder.transformer."},
    "diarizen": {"projection": "encoder.feature_projection.", "transformer": "encoder.transformer."},
}
# torch writes weight norm either way, the second since 2.1.
_WEIGHT_NORMS = (
    {"gain": "weight_g", "direction": "weight_v"},
    {"gain": "parametrizations.weight.original0", "direction": "parametrizations.weight.original1"},
)


def load_wavlm(structure: Structure, state: Mapping[str, Tensor], path: Path | str, *, layout: str) -> WavLM:
    """A WavLM with weights that came from `path` in one of LAYOUTS, ready for inference and folded.

    The tensors are taken over, not copied, where they are float32 already. Raises MissingRequirementError, in one
    line, where names or shapes are not exactly those of the structure.
    """
    plain = plain_state(structure, state, path, layout=layout)
    with torch.device("meta"):
        wavlm = WavLM(structure)
    names = layout_names(wavlm.state_dict(), plain, path, layout=layout)
    return load_exactly(wavlm, plain, path, names).fold()


def plain_state(
    structure: Structure, state: Mapping[str, Tensor], path: Path | str, *, layout: str, prefix: str = ""
) -> dict[str, Tensor]:
    """The state without what a layout adds to a WavLM's weights and what says nothing; `prefix` as in the file.

    That is: Hugging Face's vector for masked frames, torchaudio's query, key and value in one matrix, and DiariZen's
    factors of an unpruned extractor, which are all 1. Raises MissingRequirementError where they are not.
    """
    plain = dict(state)
    if layout == "hugging-face":
        plain.pop(f"{prefix}masked_spec_embed", None)
    if layout == "torchaudio":
        plain = {name: tensor for whole in plain.items() for name, tensor in _split(*whole)}
    scale = f"{prefix}feature_extractor.dummy_weight"
    unscaled = layout == "diarizen" and not structure.output_scale
    if unscaled and scale in plain and bool((plain.pop(scale) != 1).any()):
        problem = "is not 1 everywhere, as it would be in an unpruned WavLM: the structure is another one"
        raise MissingRequirementError(f"{path}: {scale} {problem}")
    return plain


def layout_names(
    ours: Iterable[str], state: Mapping[str, Tensor], path: Path | str, *, layout: str, prefix: str = ""
) -> dict[str, str]:
    """What a layout calls each entry of a WavLM's own state, `prefix` before it; `state` shows which weight norm.

    Raises InputError for an unknown layout, MissingRequirementError for a WavLM that the layout has no name for.
    """
    if layout not in LAYOUTS:
        raise InputError(f"{layout} is no layout of weights: {', '.join(LAYOUTS)}")
    old = any(name.endswith("pos_conv_embed.conv.weight_g") for name in state)
    places = {**_PLACES[layout], **_WEIGHT_NORMS[0 if old else 1]}
    ours = list(ours)
    if kept := [name for name in ours if name.endswith((".attention_bias", ".feed_forward_bias"))]:
        problem = "this layout has no place for the output bias of what was removed"
        raise MissingRequirementError(f"{path}: {kept[0]}: {problem}")
    names = {name: prefix + _renamed(name, places) for name in ours}
    if not any(name.startswith("encoder.layers.0.attention.") for name in names):
        problem = "the first layer has no attention, but it is where this layout keeps the table of positions"
        raise MissingRequirementError(f"{path}: {problem}")
    return names


def in_layout(wavlm: WavLM, *, layout: str) -> dict[str, Tensor]:
    """The weights of a WavLM as `layout` would write them, so that others can load them.

    An unpruned extractor gets DiariZen's factors of 1; the vector for masked frames is not made up.
    """
    state = wavlm.state_dict()
    names = layout_names(state, {}, "this WavLM", layout=layout)
    written = {names[name]: tensor for name, tensor in state.items()}
    if layout == "diarizen" and not wavlm.structure.output_scale:
        written["feature_extractor.dummy_weight"] = torch.ones(wavlm.structure.features)
    if layout == "torchaudio":
        written = _joined(written)
    return written


def _renamed(name: str, places: Mapping[str, str]) -> str:
    for pattern, template in _RULES:
        renamed, found = re.subn(f"^{pattern}", template, name)
        if found:
            return renamed.format(**places)
    raise InputError(f"{name} is no weight of a WavLM")


def _split(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """torchaudio's names as the others have them: its attention lies one module deeper, q, k and v in one."""
    if ".attention.attention.in_proj_" not in name:
        return [(name.replace(".attention.attention.", ".attention."), tensor)]
    before, kind = name.split("attention.in_proj_")
    thirds = tensor.chunk(3)
    return [(f"{before}{which}_proj.{kind}", part) for which, part in zip("qkv", thirds, strict=True)]


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `_split`."""
    joined: dict[str, Tensor] = {}
    for name, tensor in state.items():
        before, found, after = name.partition(".attention.q_proj.")
        if found:
            parts = [state[f"{before}.attention.{which}_proj.{after}"] for which in "qkv"]
            joined[f"{before}.attention.attention.in_proj_{after}"] = torch.cat(parts)
        elif not re.search(r"\.attention\.[kv]_proj\.", name):
            joined[name.replace(".attention.out_proj.", ".attention.attention.out_proj.")] = tensor
    return joined
