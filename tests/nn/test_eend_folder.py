"""diarbench's own layout of EEND networks: what is written is read back, and what is spoilt is noticed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from small_networks import noise, shaken, small

from diarbench.errors import DiarbenchError
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import load_eend, save_eend
from diarbench.nn.fbank import FbankEend

SMALL = HeadShape(units=16, feed_forward=24, heads=2, blocks=2, kernel=5, overlap=3)
PRUNED = replace(small("large"), heads=((0, 2), (), (1,)), feed_forward=(5, 48, 0), feed_forward_biases=(2,))


def network(kind: str) -> Any:
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


def said(**changes: Any) -> Callable[[Path], None]:
    """What changes keys of model.json; None takes one out."""

    def change(folder: Path) -> None:
        values = json.loads((folder / "model.json").read_text()) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        (folder / "model.json").write_text(json.dumps(kept))

    return change


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
        (said(front_end="cqt"), "front_end is 'cqt', not wavlm or fbank"),
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
