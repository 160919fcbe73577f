"""diarbench's own layout of EEND networks: what is written is read back, and what is spoilt is noticed."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from small_networks import noise, shaken, small

from diarbench.compress.quantize import quantize
from diarbench.errors import DiarbenchError, InputError
from diarbench.nn.checkpoints import read_state
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import load_eend, save_eend
from diarbench.nn.fbank import FbankEend
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantmodes import KINDS, MODES, quant_mode

SMALL = HeadShape(units=16, feed_forward=24, heads=2, blocks=2, kernel=5, overlap=3)
PRUNED = replace(small("large"), heads=((0, 2), (), (1,)), feed_forward=(5, 48, 0), feed_forward_biases=(2,))


NARROW = PyanNetShape(lstm=(9, 8), linear=(6,))
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="quantizing needs torchao")


def network(kind: str) -> Any:
    if kind == "pyannet":
        torch.manual_seed(0)
        return PyanNet(NARROW).eval()
    if kind == "fbank":
        fbank = FbankEend(SMALL).eval()
        shaken(fbank.head)  # not the mel bands, which are no weights
        return fbank
    return shaken(Eend(PRUNED if kind == "pruned" else small(kind), SMALL))


@pytest.mark.parametrize("kind", ["base", "large", "pruned", "fbank"])
@torch.inference_mode()
def test_what_is_written_is_read_back(kind: str, tmp_path: Path) -> None:
    written = network(kind)
    expected = written(noise())
    found = load_eend(save_eend(tmp_path, written, window=8, training={"method": "params", "epochs": 3}))
    assert (found.window, found.shape, found.training) == (8.0, SMALL, {"method": "params", "epochs": 3})
    assert found.structure == (None if kind == "fbank" else written.wavlm.structure)
    torch.testing.assert_close(found.network(noise()), expected)
    assert not found.network.training
    assert not any(weight.requires_grad for weight in found.network.parameters())


@torch.inference_mode()
def test_a_pyannet_is_one_as_well(tmp_path: Path) -> None:
    written = network("pyannet")
    found = load_eend(save_eend(tmp_path, written, window=10))
    assert (found.front_end, found.shape, found.structure, found.quantization) == ("pyannet", NARROW, None, None)
    assert torch.equal(found.network(noise()), written(noise()))
    assert json.loads((tmp_path / "model.json").read_text())["head"]["lstm"] == [9, 8]


def test_float_folders_hold_what_they_always_held(tmp_path: Path) -> None:
    """Their files are read and written as before networks could be quantized, byte for byte."""
    from safetensors.torch import save

    written = network("pruned")
    save_eend(tmp_path, written, window=8)
    state = {name: tensor.float().contiguous() for name, tensor in written.state_dict().items()}
    assert (tmp_path / "model.safetensors").read_bytes() == save(state)
    keys = ["format", "front_end", "head", "window", "training", "sha256"]
    assert list(json.loads((tmp_path / "model.json").read_text())) == keys


@needs_torchao
@pytest.mark.parametrize("kind", ["base", "large", "pruned", "fbank", "pyannet"])
@torch.inference_mode()
def test_quantized_networks_are_read_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    for name in MODES if kind == "base" else ("w4a8-static", "w8a8-dynamic", "bf16"):
        done = quantize(network(kind), quant_mode(name, covers=KINDS), calibration=[noise()])
        save_eend(tmp_path, done.network, window=8)
        first, second = load_eend(tmp_path), load_eend(tmp_path)
        expected = done.network(noise())
        assert torch.equal(first.network(noise()), expected)
        assert torch.equal(second.network(noise()), expected)
        assert first.quantization is not None
        assert first.quantization.mode == done.report.mode
        assert set(first.quantization.modules) == {module.path for module in done.report.covered}
        assert (tmp_path / "model.safetensors").stat().st_size == done.report.bytes_quantized
        assert save_eend(tmp_path / "again", first.network, window=8)
        files = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path, tmp_path / "again")]
        assert files[0] == files[1]


HALVED = {
    "base": ("wavlm.encoder.layers.0.feed_forward.inner.weight", "wavlm.encoder.position.direction"),
    "fbank": ("head.projection.weight",),
    "pyannet": ("sincnet.convolutions.1.weight", "lstm.layers.0.weight_ih_l0"),
}
WHOLE = {
    "base": ("wavlm.encoder.layers.0.feed_forward.inner.bias", "wavlm.encoder.norm.weight", "layer_weights.weight"),
    "fbank": ("head.projection.bias", "head.classifier.weight"),
    "pyannet": ("sincnet.filters.low", "sincnet.filters.band", "lstm.layers.0.bias_ih_l0"),
}


@pytest.mark.parametrize("kind", HALVED)
@torch.inference_mode()
def test_large_matrices_may_be_stored_in_halves(kind: str, tmp_path: Path) -> None:
    """They are float32 again once loaded, with the values that float16 has; all else is as it was, bit for bit."""
    written = network(kind)
    save_eend(tmp_path / "halves", written, window=8, halves=True)
    stored = read_state(tmp_path / "halves" / "model.safetensors")
    assert {stored[name].dtype for name in HALVED[kind]} == {torch.float16}
    assert {stored[name].dtype for name in WHOLE[kind]} == {torch.float32}
    state = written.state_dict()
    for name, tensor in stored.items():
        assert tensor.dtype == torch.float16 or torch.equal(tensor, state[name]), name
    rounded = copy.deepcopy(written)
    rounded.load_state_dict(
        {
            name: tensor.half().float() if stored[name].dtype == torch.float16 else tensor
            for name, tensor in state.items()
        }
    )
    found = load_eend(tmp_path / "halves").network.state_dict()
    expected = load_eend(save_eend(tmp_path / "whole", rounded, window=8)).network.state_dict()
    assert {tensor.dtype for tensor in found.values() if tensor.is_floating_point()} == {torch.float32}
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert any(not torch.equal(tensor, state[name]) for name, tensor in found.items() if name in state)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_halves_cant_hold_leave_a_folder_as_it_was(tmp_path: Path, value: float) -> None:
    written = network("fbank")
    save_eend(tmp_path, written, window=8)
    before = (tmp_path / "model.safetensors").read_bytes()
    with torch.no_grad():
        written.head.projection.weight[3, 5] = value
    with pytest.raises(InputError, match=r"head\.projection\.weight: .*float16 can't hold") as caught:
        save_eend(tmp_path, written, window=4, halves=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert load_eend(tmp_path).window == 8


def said(**changes: Any) -> Callable[[Path], None]:
    """What changes keys of model.json; None takes one out."""

    def change(folder: Path) -> None:
        values = json.loads((folder / "model.json").read_text()) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        (folder / "model.json").write_text(json.dumps(kept))

    return change


def quantization(**changes: Any) -> Callable[[Path], None]:
    """What changes the table of model.json that tells of quantization."""

    def change(folder: Path) -> None:
        values = json.loads((folder / "model.json").read_text())
        values["quantization"] |= changes
        (folder / "model.json").write_text(json.dumps(values))

    return change


@needs_torchao
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (quantization(mode="w3"), "model.json: quantization: there is no quantization 'w3'"),
        (quantization(mode="w8"), r"not the weights of FbankEend: .*of another shape .*codes is \(\d+,\)"),
        (quantization(mode="w4a8-static"), "not the weights of FbankEend: missing .*inputs"),
        (quantization(group=7), "of another shape .*scale"),
        (quantization(modules=["head.projection"]), "not the weights of FbankEend: missing"),
        (quantization(modules=["head.nothing"]), "model.json: FbankEend has no module 'head.nothing'"),
        (quantization(modules=["head.norm"]), "'head.norm' is a LayerNorm, which is not quantized"),
        (quantization(kinds=[]), "quantization: unknown key 'kinds'"),
        (said(quantization=None), "not the weights of FbankEend: missing"),
        (said(quantization=3), "quantization is a table"),
    ],
)
def test_what_is_said_of_quantization_must_hold(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    save_eend(tmp_path, quantize(network("fbank"), quant_mode("w4", group=8)).network, window=8)
    spoil(tmp_path)
    with pytest.raises(DiarbenchError, match=message) as caught:
        load_eend(tmp_path)
    assert "\n" not in str(caught.value)


@torch.inference_mode()
def test_a_folded_network_is_written_as_well_and_stays_as_it_was(tmp_path: Path) -> None:
    folded = network("base").fold()
    expected = folded(noise())
    loaded = load_eend(save_eend(tmp_path, folded, window=8)).network
    torch.testing.assert_close(loaded(noise()), expected)
    again = load_eend(save_eend(tmp_path, loaded, window=4))
    torch.testing.assert_close(again.network(noise()), expected)
    assert again.window == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors", "structure.json"]


def test_half_precision_is_written_in_full(tmp_path: Path) -> None:
    loaded = load_eend(save_eend(tmp_path, network("fbank").to(torch.bfloat16), window=8)).network
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-7] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def cut_short(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])


def another_structure(folder: Path) -> None:
    (folder / "structure.json").write_text(small("base").to_json())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.json").unlink(), "model.json: can't be read.*a folder with model.json"),
        (lambda folder: (folder / "model.json").write_text("{"), "model.json: no JSON"),
        (lambda folder: (folder / "model.json").write_text("[]"), "no object"),
        (said(format=2), "format 2 is not 1"),
        (said(windows=3), "unknown key windows; did you mean window"),
        (said(training=None), "lacks training"),
        (said(front_end="cqt"), "front_end is 'cqt', not wavlm, fbank or pyannet"),
        (said(window="8"), "window is in seconds, above 0, not '8'"),
        (said(window=0), "window is in seconds, above 0, not 0"),
        (said(head=[1]), "head is a table"),
        (said(head={"unit": 16}), "head: unknown key 'unit'; did you mean units"),
        (said(head={"units": True}), "head: units is a whole number, not True"),
        (said(head={"overlap": 5}), "head: of 4 speakers, 5"),
        (said(head={}), "not the weights of Eend.*of another shape"),
        (said(front_end="fbank"), "not the weights of FbankEend"),
        (another_structure, "not the weights of Eend: missing"),
        (lambda folder: (folder / "structure.json").unlink(), "structure.json: can't be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: no such weight file"),
        (flip_a_byte, "its SHA-256 is not the one in model.json"),
        (cut_short, "damaged"),
    ],
)
def test_spoilt_folders_give_one_line(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    save_eend(tmp_path, network("pruned"), window=8)
    spoil(tmp_path)
    with pytest.raises(DiarbenchError, match=message) as caught:
        load_eend(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_was_not_finished_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that were written over, and then something went wrong, belong to no model.json of before."""
    save_eend(tmp_path, network("base"), window=8)
    with pytest.raises(ValueError, match="JSON"):
        save_eend(tmp_path, network("pruned"), window=8, training={"loss": float("nan")})
    with pytest.raises(DiarbenchError, match=r"model\.json: can't be read"):
        load_eend(tmp_path)
