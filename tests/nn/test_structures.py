"""Structures of WavLM: what they say, and what nonsense in a file is answered with."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from diarbench.errors import InputError, NotFoundError
from diarbench.nn.structures import Structure, named_structure, read_structure, structure_names


@pytest.fixture
def values() -> dict[str, Any]:
    return json.loads(named_structure("wavlm_base_s80_md").to_json())


def diarizen_config(structure: Structure) -> dict[str, Any]:
    """As DiariZen writes it beside the weights of its stages."""
    return {
        "extractor_mode": structure.extractor_norm,
        "extractor_conv_layer_config": [list(layer) for layer in structure.convolutions],
        "extractor_conv_bias": False,
        "encoder_embed_dim": structure.width,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 128,
        "encoder_pos_conv_groups": 16,
        "encoder_num_layers": structure.layers,
        "encoder_use_attention": [bool(heads) for heads in structure.heads],
        "encoder_use_feed_forward": [units > 0 for units in structure.feed_forward],
        "encoder_total_num_heads": structure.total_heads,
        "encoder_remaining_heads": [list(heads) for heads in structure.heads],
        "encoder_num_buckets": 320,
        "encoder_max_distance": 800,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": list(structure.feed_forward),
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": structure.pre_norm,
        "encoder_layer_drop": 0.05,
        "aux_num_out": None,
        "normalize_waveform": structure.normalize_waveform,
        "extractor_prune_conv_channels": False,
        "encoder_prune_attention_heads": False,
        "encoder_prune_attention_layer": False,
        "encoder_prune_feed_forward_intermediate": False,
        "encoder_prune_feed_forward_layer": False,
        "use_layerwise_prune": False,
    }


@pytest.mark.parametrize("name", structure_names())
def test_named_structures_read_as_they_are_written(name: str, tmp_path: Path) -> None:
    structure = named_structure(name)
    path = tmp_path / "structure.json"
    path.write_text(structure.to_json(), encoding="utf-8")
    assert read_structure(path) == structure
    assert hash(read_structure(path)) == hash(structure)
    assert (structure.receptive_field, structure.step, structure.head_size) == (400, 320, 64)
    assert [structure.frames(16000 * seconds) for seconds in (1, 5, 8, 12, 16)] == [49, 249, 399, 599, 799]
    assert [structure.frames(samples) for samples in (399, 400, 719, 720)] == [0, 1, 1, 2]


def test_sums_of_the_released_structures() -> None:
    base, large = named_structure("wavlm_base_s80_md"), named_structure("wavlm_large_s80_md")
    assert [layer.channels for layer in base.convolutions] == [90, 161, 173, 181, 351, 155, 137]
    assert [len(heads) for heads in base.heads] == [2, 3, 3, 5, 2, 1, 4, 4, 0, 0, 2, 1]
    assert sum(base.feed_forward) == 5279
    assert [layer.channels for layer in large.convolutions] == [512, 153, 224, 255, 302, 368, 211]
    assert (sum(map(len, large.heads)), sum(large.feed_forward)) == (90, 14441)
    assert large.heads[22] == (0, 1, 3, 6, 7, 9, 10, 11, 12, 14)


def test_diarizens_names_of_the_unpruned_ones_and_unknown_names() -> None:
    assert named_structure("wavlm_base") == named_structure("wavlm-base-plus")
    assert named_structure("wavlm_large") == named_structure("wavlm-large")
    with pytest.raises(
        NotFoundError, match="no WavLM structure is named wavlm_base_s90_md; did you mean wavlm_base_s80_md"
    ):
        named_structure("wavlm_base_s90_md")
    with pytest.raises(NotFoundError):
        named_structure("../structures/wavlm-large")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 2}, "format 2 is not 1"),
        ({"convolutions": []}, "needs convolutions"),
        ({"convolutions": [[0, 10, 5]]}, "convolution 0: channels is a whole number of at least 1, not 0"),
        ({"convolutions": [[90, 10]]}, r"a convolution is \[channels, kernel, stride\], not \[90, 10\]"),
        ({"convolutions": 7}, "convolutions is a list with an entry for each layer, not 7"),
        ({"convolutions": [[90, True, 5]]}, "kernel is a whole number of at least 1, not true"),
        ({"extractor_norm": "batch_norm"}, 'group_norm or layer_norm, not "batch_norm"'),
        ({"pre_norm": "no"}, 'pre_norm is true or false, not "no"'),
        ({"width": 770}, "width 770 can't be divided by position_groups 16"),
        ({"width": 784}, "width 784 can't be divided by total_heads 12"),
        ({"width": 768.0}, "width is a whole number of at least 1, not 768.0"),
        ({"total_heads": 0}, "total_heads is a whole number of at least 1, not 0"),
        ({"buckets": 30}, "buckets have to be a multiple of 4"),
        ({"max_distance": 80}, "max_distance greater than a quarter"),
        ({"heads": [[0]] * 11}, "an entry for each layer, not 11 and 12"),
        ({"heads": [[]] * 11 + [3]}, "the heads of a layer are a list of indices, not 3"),
        ({"heads": [[]] * 11 + [[3, 12]]}, "layer 11: head 12 is not one of 0 to 11"),
        ({"heads": [[]] * 11 + [[-1]]}, "layer 11: a head is a whole number of at least 0, not -1"),
        ({"heads": [[]] * 11 + [[4, 4]]}, r"layer 11: heads \[4, 4\] have to be in order, each of them once"),
        ({"heads": [[]] * 11 + [[5, 4]]}, r"heads \[5, 4\] have to be in order"),
        ({"heads": [[]] * 11 + [[1.0]]}, "a head is a whole number"),
        ({"feed_forward": [1] * 11 + [-1]}, "layer 11: feed_forward is a whole number of at least 0, not -1"),
        ({"heads": [], "feed_forward": []}, "an entry for each layer, not 0 and 0"),
        ({"attention_biases": 3}, "attention_biases is a list of layers, not 3"),
        ({"attention_biases": [7]}, r"layers that lost it \(of \[8, 9\]\) in order, each once, not \[7\]"),
        ({"attention_biases": [9, 8]}, r"in order, each once, not \[9, 8\]"),
        ({"attention_biases": ["8"]}, "attention_biases: a layer is a whole number"),
        ({"feed_forward_biases": [0]}, r"feed_forward_biases are layers that lost it \(of \[\]\)"),
        ({"head": []}, "unknown key head; did you mean heads"),
    ],
)
def test_nonsense_is_one_clear_line(values: dict[str, Any], change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        Structure.from_json(json.dumps({**values, **change}), "some.json")
    assert str(error.value).startswith("some.json: ")
    assert "\n" not in str(error.value)


def test_files_that_are_no_structures(values: dict[str, Any], tmp_path: Path) -> None:
    del values["width"], values["heads"]
    for text, problem in {
        json.dumps(values): "lacks heads, width",
        "[1]": r"a structure is a JSON object, not \[1\]",
        "{": "no JSON",
    }.items():
        with pytest.raises(InputError, match=problem):
            Structure.from_json(text)
    with pytest.raises(InputError, match=r"gone\.json: can't be read as a WavLM structure"):
        read_structure(tmp_path / "gone.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes\.json: can't be read"):
        read_structure(tmp_path / "bytes.json")


@pytest.mark.parametrize("name", structure_names())
def test_diarizens_config_says_the_same(name: str) -> None:
    structure = named_structure(name)
    config = diarizen_config(structure)
    assert Structure.from_diarizen(config) == replace(structure, output_scale=True)
    # A layer that is not used counts as gone, whatever is left in its lists.
    config["encoder_use_attention"] = [False, *config["encoder_use_attention"][1:]]
    config["encoder_use_feed_forward"] = [*config["encoder_use_feed_forward"][:-1], False]
    without = Structure.from_diarizen(config)
    assert (without.heads[0], without.feed_forward[-1]) == ((), 0)
    assert without.heads[1:] == structure.heads[1:]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"encoder_prune_attention_heads": True}, "encoder_prune_attention_heads is true: prune it first"),
        ({"use_layerwise_prune": "5-12"}, 'use_layerwise_prune is "5-12": prune it first'),
        ({"extractor_prune_conv_channels": None}, "extractor_prune_conv_channels is null"),
        ({"extractor_conv_bias": True}, "extractor_conv_bias is true"),
        ({"aux_num_out": 32}, "aux_num_out is 32"),
        ({"encoder_ff_interm_features": [1] * 11}, "an entry for each of 12 layers"),
        ({"encoder_remaining_heads": None}, "an entry for each of 12 layers"),
        ({"encoder_num_layer": 12}, "unknown key encoder_num_layer; did you mean encoder_num_layers"),
        ({"extractor_conv_layer_config": [[0, 1, 1]]}, "some.bin: convolution 0: channels"),
    ],
)
def test_diarizens_config_that_cant_be_loaded(change: dict[str, Any], problem: str) -> None:
    config = {**diarizen_config(named_structure("wavlm_base_s80_md")), **change}
    with pytest.raises(InputError, match=problem):
        Structure.from_diarizen(config, "some.bin")


def test_every_field_is_in_the_file(values: dict[str, Any]) -> None:
    assert list(values) == ["format", *(field.name for field in fields(Structure))]
