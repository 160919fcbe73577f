"""What is published: nothing by halves, and nothing where it can't be."""

from __future__ import annotations

import tomllib

import pytest
import torch

from diarbench.errors import InputError, StoreError
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.training.begin import Model, begin, encoder_facts
from diarbench.training.publish import check_out, publish
from diarbench.training.recipes import Recipe


def recipe(options, start="encoder.safetensors"):
    return Recipe.model_validate(
        {
            "title": "A test",
            "start": {"ge2e": {"path": str(start)}},
            "data": {"train": ["tones"], "development": ["tones"]},
            "stages": [{"kind": "imitate", "steps": 1}],
            "card": {"title": "A test", "adapter": "some.where:System", "options": options, "tuned_on": ["nothing"]},
        }
    )


def model(seed, *history):
    torch.manual_seed(seed)
    return Model(Ge2eEncoder((6, 5, 4)).eval().requires_grad_(False), 2.0, history=history)


MAGNITUDE = {"kind": "magnitude", "units": "weights", "nominal": 0.5, "achieved": 0.5}
QUANTIZE = {"kind": "quantize", "mode": "w8", "method": "ptq"}


def test_a_card_that_cant_be_made_leaves_weights_as_they_were(tmp_path):
    publish("mine", recipe({}), model(0), tmp_path)
    weights = tmp_path / "weights" / "mine" / "encoder.safetensors"
    before = weights.read_bytes()
    with pytest.raises(InputError, match="units follows from the network"):
        publish("mine", recipe({"units": [1]}), model(1), tmp_path)
    assert weights.read_bytes() == before
    assert sorted(path.name for path in weights.parent.parent.iterdir()) == ["mine"]


def test_an_encoder_that_was_made_smaller_before_remembers(tmp_path):
    publish("first", recipe({}), model(0, MAGNITUDE), tmp_path, parts=["librispeech/train"])
    file = tmp_path / "weights" / "first" / "encoder.safetensors"
    assert encoder_facts(file)["trained_parts"] == ["librispeech/train"]
    again = recipe({}, start=file)
    begun = begin(again.start, lambda name: pytest.fail(name), tmp_path)
    assert begun.history == (MAGNITUDE,)
    card = publish("second", again, model(0, *begun.history, QUANTIZE), tmp_path)
    said = tomllib.loads(card.read_text())["compression"]
    assert said["method"] == "magnitude-weights + w8"
    assert said["sparsity"] == 0.5


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    check_out(tmp_path / "not" / "there" / "yet")
    assert not (tmp_path / "not").exists()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="file: is a file"):
            check_out(out)
        with pytest.raises(StoreError, match="file: is a file"):
            publish("mine", recipe({}), model(0), out)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine").write_text("")
    with pytest.raises(StoreError, match="weights/mine: can't be written"):
        publish("mine", recipe({}), model(0), tmp_path)
