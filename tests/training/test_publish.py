"""What is published: nothing by halves, and nothing where it can't be."""

from __future__ import annotations

import tomllib

import pytest
import torch

from diarbench.compress.surgery import Kept
from diarbench.errors import InputError, StoreError
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import load_eend
from diarbench.nn.fbank import FbankEend
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.training.begin import Model, begin, encoder_facts, save_model
from diarbench.training.publish import check_out, model_card, publish
from diarbench.training.recipes import Recipe
from tests.training.small_data import HEAD, STRUCTURE


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


def eend_recipe(**card):
    return Recipe.model_validate(
        {
            "title": "A test",
            "start": {"new": {"front_end": "fbank"}},
            "data": {"train": ["tones"], "development": ["tones"]},
            "stages": [{"kind": "train", "steps": 1}],
            "card": {"title": "A test", "options": {"recipe": "diarizen-meeting"}, **card},
        }
    )


def test_half_the_bytes_where_large_matrices_are_stored_in_halves(tmp_path):
    torch.manual_seed(0)
    network = FbankEend(HeadShape(units=64, feed_forward=256, heads=4, blocks=2, kernel=15))
    sizes = []
    for store in ("fp32", "fp16"):
        publish(store, eend_recipe(store=store), Model(network, 8.0), tmp_path)
        folder = tmp_path / "weights" / store
        sizes.append((folder / "model.safetensors").stat().st_size)
        found = load_eend(folder).network
        assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
        said = (folder / "README.md").read_text()
        assert ("- Large matrices are stored in 16 bits and computed in 32\n" in said) == (store == "fp16")
    assert 0.5 < sizes[1] / sizes[0] < 0.55
    samples = torch.randn(1, 32000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(found(samples), network.eval()(samples), rtol=0, atol=1e-2)


def test_weights_that_halves_cant_hold_are_said_of_the_recipe(tmp_path):
    network = FbankEend(HeadShape(**{**HEAD, "units": 16}))
    with torch.no_grad():
        network.head.projection.weight.fill_(1e6)
    with pytest.raises(InputError, match=r"\[card\] store: head\.projection\.weight: .*go on with store"):
        publish("mine", eend_recipe(store="fp16"), Model(network, 8.0), tmp_path)
    assert not (tmp_path / "mine.toml").exists()
    assert not any((tmp_path / "weights").iterdir())


@pytest.mark.parametrize(
    ("measures", "shown", "said"),
    [({"local_error": 0.321}, "32.1 %", "local error is that of windows"), ({"cosine": 0.75}, "0.750", "")],
)
def test_of_rounds_the_model_card_shows_what_the_last_one_came_to(measures, shown, said):
    worse = {"loss": 0.9, **dict.fromkeys(measures, 0.01)}
    rounds = [
        {"steps": 10, "seconds": 60.0, "development": worse},
        {"steps": 7, "seconds": 120.0, "development": {"loss": 0.25, **measures}},
    ]
    history = {**MAGNITUDE, "rounds": rounds}
    network = FbankEend(HeadShape(**HEAD))
    text = model_card("mine", eend_recipe(), Model(network, 8.0, history=(history,)))
    assert f"| magnitude | 10 + 7 | 3.0 | 0.2500 | {shown} |" in text
    assert said in text
    text = model_card("mine", eend_recipe(), Model(network, 8.0, history=({**MAGNITUDE, "rounds": []},)))
    assert "| magnitude |  |  |  |  |" in text


def test_options_of_any_kind_are_written_as_toml(tmp_path):
    options = {"rules": [{"a": 1, "b c": [2.5, {"d": 'x"\u2028ü'}]}, {}], "on": True, "table": {"deep": {"e": []}}}
    card = publish("mine", recipe(options), model(0), tmp_path)
    assert tomllib.loads(card.read_text(encoding="utf-8"))["options"] == {**options, "units": [6, 5, 4]}


def test_a_model_that_cant_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    network = Eend(STRUCTURE, HeadShape(**HEAD))
    with pytest.raises(StoreError, match="file"):
        save_model(tmp_path / "file" / "mine", Model(network, 8.0, Kept.all_of(STRUCTURE)), {})


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
