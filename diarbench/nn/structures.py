"""What a WavLM is made of: convolutions, heads and feed-forward widths that were kept; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from diarbench.errors import InputError, NotFoundError, did_you_mean

FORMAT = 1  # of the JSON files, written as their key "format"
_FOLDER = Path(__file__).with_name("structures")
_ALIASES = {"wavlm_base": "wavlm-base-plus", "wavlm_large": "wavlm-large"}  # DiariZen's names of the unpruned ones


class Convolution(NamedTuple):
    """One layer of the feature extractor."""

    channels: int
    kernel: int  # samples, or frames of the layer before
    stride: int


@dataclass(frozen=True, slots=True)
class Structure:
    """What was kept of a WavLM (Chen et al., 2022, https://arxiv.org/abs/2110.13900), and how it is wired.

    Never pruned are the width of the Transformer, the positional convolution, the norms and the table of relative
    positions. Raises InputError, in one line, where the values can't be a WavLM.
    """

    convolutions: tuple[Convolution, ...]
    extractor_norm: str  # "group_norm": after the first convolution alone (Base); "layer_norm": after each (Large)
    output_scale: bool  # a fixed factor per channel after the last convolution, left by pruning with soft gates
    normalize_waveform: bool  # to mean 0 and variance 1 over the window, before the first convolution
    width: int  # of the Transformer
    position_kernel: int  # frames that the positional convolution sees
    position_groups: int
    pre_norm: bool  # layer norms before attention and feed-forward (Large), or after them (Base)
    total_heads: int  # before pruning; a head's size is width / total_heads
    buckets: int  # of relative positions, half of them for either side
    max_distance: int  # in frames, from which on all relative positions share the last bucket
    heads: tuple[tuple[int, ...], ...]  # per layer, the kept heads by their original index; (): no attention
    feed_forward: tuple[int, ...]  # per layer, the units kept between its two linear maps; 0: no feed-forward
    attention_biases: tuple[int, ...] = ()  # layers without attention that still add its output bias
    feed_forward_biases: tuple[int, ...] = ()  # layers without feed-forward that still add its output bias

    def __post_init__(self) -> None:
        _check_extractor(self)
        _check_encoder(self)

    @property
    def layers(self) -> int:
        """Layers of the Transformer, also those that kept nothing."""
        return len(self.heads)

    @property
    def head_size(self) -> int:
        """Units of one head."""
        return self.width // self.total_heads

    @property
    def features(self) -> int:
        """Channels that the feature extractor hands over."""
        return self.convolutions[-1].channels

    @property
    def step(self) -> int:
        """Samples from one frame to the next.

        >>> named_structure("wavlm-base-plus").step
        320
        """
        step = 1
        for convolution in self.convolutions:
            step *= convolution.stride
        return step

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the feature extractor sees.

        >>> named_structure("wavlm-base-plus").receptive_field
        400
        """
        seen, step = 1, 1
        for convolution in self.convolutions:
            seen += (convolution.kernel - 1) * step
            step *= convolution.stride
        return seen

    def frames(self, samples: int) -> int:
        """Frames of a window of so many samples; 0 where it is shorter than the receptive field.

        >>> [named_structure("wavlm-large").frames(16000 * seconds) for seconds in (8, 12, 16)]
        [399, 599, 799]
        """
        for convolution in self.convolutions:
            samples = (samples - convolution.kernel) // convolution.stride + 1
        return max(samples, 0)

    def to_json(self) -> str:
        """The structure as a JSON object: the fields by name, and "format"."""
        lines = [f'  "format": {FORMAT}']
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("convolutions", "heads"):  # one line for each layer
                rows = ",\n    ".join(json.dumps(row) for row in value)
                lines.append(f'  "{field.name}": [\n    {rows}\n  ]')
            else:
                lines.append(f'  "{field.name}": {json.dumps(value)}')
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, path: Path | str = "structure") -> Structure:
        """The structure that `to_json` wrote; `path` is named in errors (InputError)."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}: no JSON: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: a structure is a JSON object, not {_shown(values)}")
        if (found := values.pop("format", None)) != FORMAT:
            raise InputError(f"{path}: format {_shown(found)} is not {FORMAT}, the one that this version reads")
        _check_keys(values, {field.name for field in fields(cls)}, path)
        return _build(values, path)

    @classmethod
    def from_diarizen(cls, config: Mapping[str, Any], path: Path | str = "config") -> Structure:
        """The structure that the "config" of one of DiariZen's WavLM files describes; `path` is named in errors.

        Raises InputError where keys lack, are unknown, or say that the model still holds pruning gates: such a model
        has to be made smaller first.
        """
        gates = sorted(key for key, value in config.items() if "prune" in key and value is not False)
        if gates:
            raise InputError(f"{path}: {gates[0]} is {_shown(config[gates[0]])}: prune it first, gates can't be loaded")
        kept = {key: value for key, value in config.items() if "prune" not in key and key not in _UNUSED}
        _check_keys(kept, {*_DIARIZEN_KEYS.values(), "encoder_use_attention", "encoder_use_feed_forward"}, path)
        if config.get("extractor_conv_bias"):
            raise InputError(f"{path}: extractor_conv_bias is true: no WavLM has biases there")
        if config.get("aux_num_out") is not None:
            raise InputError(f"{path}: aux_num_out is {_shown(config['aux_num_out'])}: an output layer is not loaded")
        values = {ours: kept[theirs] for ours, theirs in _DIARIZEN_KEYS.items() if ours != "layers"}
        heads, widths, layers = values["heads"], values["feed_forward"], kept["encoder_num_layers"]
        masks = kept["encoder_use_attention"], kept["encoder_use_feed_forward"]
        if not all(isinstance(each, Sequence) and len(each) == layers for each in (heads, widths, *masks)):
            problem = f"heads, widths and what is used need an entry for each of {_shown(layers)} layers"
            raise InputError(f"{path}: {problem}")
        values["heads"] = [kept_heads if used else [] for kept_heads, used in zip(heads, masks[0], strict=True)]
        values["feed_forward"] = [width if used else 0 for width, used in zip(widths, masks[1], strict=True)]
        return _build({**values, "output_scale": True}, path)


# Our fields and DiariZen's keys. Its keys for dropout and the like say nothing about what was kept.
_DIARIZEN_KEYS = {
    "convolutions": "extractor_conv_layer_config",
    "extractor_norm": "extractor_mode",
    "normalize_waveform": "normalize_waveform",
    "width": "encoder_embed_dim",
    "position_kernel": "encoder_pos_conv_kernel",
    "position_groups": "encoder_pos_conv_groups",
    "pre_norm": "encoder_layer_norm_first",
    "total_heads": "encoder_total_num_heads",
    "buckets": "encoder_num_buckets",
    "max_distance": "encoder_max_distance",
    "heads": "encoder_remaining_heads",
    "feed_forward": "encoder_ff_interm_features",
    "layers": "encoder_num_layers",
}
_UNUSED = {
    *("extractor_conv_bias", "aux_num_out", "limit_l", "limit_r", "temperature", "encoder_layer_drop"),
    *("encoder_projection_dropout", "encoder_attention_dropout", "encoder_ff_interm_dropout", "encoder_dropout"),
}


def structure_names() -> list[str]:
    """The structures that diarbench knows by name.

    >>> structure_names()
    ['wavlm-base-plus', 'wavlm-large', 'wavlm_base_s80_md', 'wavlm_large_s80_md']
    """
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def named_structure(name: str) -> Structure:
    """A structure by its name: unpruned as published by Microsoft, or pruned as released by DiariZen.

    `wavlm_base` and `wavlm_large`, DiariZen's names, are the unpruned ones too. Raises NotFoundError.
    """
    own = _ALIASES.get(name, name)
    if own not in structure_names():
        known = [*structure_names(), *_ALIASES]
        raise NotFoundError(f"no WavLM structure is named {name}{did_you_mean(name, known)}")
    return read_structure(_FOLDER / f"{own}.json")


def read_structure(path: Path) -> Structure:
    """The structure in a JSON file. Raises InputError, which names the file, where there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as a WavLM structure: {error}") from error
    return Structure.from_json(text, path)


def _build(values: dict[str, Any], path: Path | str) -> Structure:
    """The structure of these JSON values, all keys being there."""
    for name in ("convolutions", "heads", "feed_forward"):
        if not isinstance(values[name], (list, tuple)):
            raise InputError(f"{path}: {name} is a list with an entry for each layer, not {_shown(values[name])}")
    for row in values["convolutions"]:
        if not isinstance(row, (list, tuple)) or len(row) != 3:
            raise InputError(f"{path}: a convolution is [channels, kernel, stride], not {_shown(row)}")
    for row in values["heads"]:
        if not isinstance(row, (list, tuple)):
            raise InputError(f"{path}: the heads of a layer are a list of indices, not {_shown(row)}")
    tuples: dict[str, tuple[Any, ...]] = {
        "convolutions": tuple(Convolution(*row) for row in values["convolutions"]),
        "heads": tuple(tuple(row) for row in values["heads"]),
        "feed_forward": tuple(values["feed_forward"]),
    }
    for name in ("attention_biases", "feed_forward_biases"):  # DiariZen has no such thing
        if not isinstance(values.get(name, ()), (list, tuple)):
            raise InputError(f"{path}: {name} is a list of layers, not {_shown(values[name])}")
        tuples[name] = tuple(values.get(name, ()))
    try:
        return Structure(**{**values, **tuples})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_keys(values: Mapping[str, Any], wanted: set[str], path: Path | str) -> None:
    """Exactly the wanted keys."""
    for key in sorted(set(values) - wanted):
        raise InputError(f"{path}: unknown key {key}{did_you_mean(key, wanted)}")
    if missing := sorted(wanted - set(values)):
        raise InputError(f"{path}: lacks {', '.join(missing)}")


def _check_extractor(structure: Structure) -> None:
    """Convolutions that can run, and a norm that is known."""
    if not structure.convolutions:
        raise InputError("a WavLM needs convolutions")
    for index, convolution in enumerate(structure.convolutions):
        for name, value in convolution._asdict().items():
            _check_count(f"convolution {index}: {name}", value, least=1)
    if structure.extractor_norm not in ("group_norm", "layer_norm"):
        raise InputError(f"extractor_norm is group_norm or layer_norm, not {_shown(structure.extractor_norm)}")
    for name in ("output_scale", "normalize_waveform", "pre_norm"):
        if not isinstance(getattr(structure, name), bool):
            raise InputError(f"{name} is true or false, not {_shown(getattr(structure, name))}")


def _check_encoder(structure: Structure) -> None:
    """Sizes that divide each other, and in each layer heads that exist."""
    for name in ("width", "position_kernel", "position_groups", "total_heads", "max_distance"):
        _check_count(name, getattr(structure, name), least=1)
    _check_count("buckets", structure.buckets, least=4)
    for name in ("position_groups", "total_heads"):
        if structure.width % getattr(structure, name):
            raise InputError(f"width {structure.width} can't be divided by {name} {getattr(structure, name)}")
    if structure.buckets % 4 or structure.max_distance <= structure.buckets // 4:
        raise InputError("buckets have to be a multiple of 4, and max_distance greater than a quarter of them")
    if not structure.heads or len(structure.heads) != len(structure.feed_forward):
        wanted = f"{len(structure.heads)} and {len(structure.feed_forward)}"
        raise InputError(f"heads and feed_forward need an entry for each layer, not {wanted}")
    for layer, (heads, units) in enumerate(zip(structure.heads, structure.feed_forward, strict=True)):
        _check_count(f"layer {layer}: feed_forward", units, least=0)
        for head in heads:
            _check_count(f"layer {layer}: a head", head, least=0)
            if head >= structure.total_heads:
                raise InputError(f"layer {layer}: head {head} is not one of 0 to {structure.total_heads - 1}")
        if list(heads) != sorted(set(heads)):
            raise InputError(f"layer {layer}: heads {_shown(list(heads))} have to be in order, each of them once")
    _check_biases(structure)


def _check_biases(structure: Structure) -> None:
    """Output biases are kept in layers that lost what they belong to, and nowhere else."""
    for name, gone in (
        ("attention_biases", {layer for layer, heads in enumerate(structure.heads) if not heads}),
        ("feed_forward_biases", {layer for layer, units in enumerate(structure.feed_forward) if not units}),
    ):
        layers = getattr(structure, name)
        for layer in layers:
            _check_count(f"{name}: a layer", layer, least=0)
        if list(layers) != sorted(set(layers)) or not gone.issuperset(layers):
            what = f"are layers that lost it (of {_shown(sorted(gone))}) in order, each once"
            raise InputError(f"{name} {what}, not {_shown(list(layers))}")


def _check_count(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} is a whole number of at least {least}, not {_shown(value)}")


def _shown(value: object) -> str:
    """A value as JSON writes it, shortened."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."
