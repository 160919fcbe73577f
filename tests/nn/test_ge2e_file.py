"""GE2E encoders in files of our own: what is rounded, what is not stored, and what damage is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diarbench.errors import InputError, MissingRequirementError
from diarbench.nn.ge2e import Ge2eEncoder, keep_widths, prune_rows
from diarbench.nn.ge2e_file import load_ge2e, save_ge2e
from diarbench.nn.packing import read_metadata

UNITS = (12, 10, 8)


@pytest.fixture
def encoder() -> Ge2eEncoder:
    torch.manual_seed(0)
    return Ge2eEncoder(UNITS).eval().requires_grad_(False)


@pytest.mark.parametrize("sparsity", [0.0, 0.03, 0.5, 0.9])
def test_what_comes_back_is_what_float16_holds(tmp_path: Path, encoder: Ge2eEncoder, sparsity: float) -> None:
    pruned = prune_rows(encoder, sparsity)
    path = save_ge2e(tmp_path / "encoder.safetensors", pruned, {"seed": 1})
    found = load_ge2e(path)
    assert found.about == {"seed": 1}
    assert not found.encoder.training
    for name, tensor in pruned.state_dict().items():
        back = found.encoder.state_dict()[name]
        assert back.dtype == torch.float32
        assert torch.equal(back, tensor.half().float())
        assert torch.equal(back == 0, tensor == 0), "nothing here is so small that rounding makes it zero"
    again = save_ge2e(tmp_path / "again.safetensors", found.encoder)
    assert all(torch.equal(tensor, load_file(path)[name]) for name, tensor in load_file(again).items())
    assert Ge2eEncoder.load(path).units == UNITS


def test_zeros_are_not_stored(tmp_path: Path) -> None:
    encoder = Ge2eEncoder()
    sizes = [save_ge2e(tmp_path / "x.safetensors", prune_rows(encoder, s)).stat().st_size for s in (0.0, 0.5, 0.7)]
    matrices, biases = 1_417_216, 6_400
    expected = [
        2 * (matrices + biases),
        *(2 * (1 - share) * matrices + matrices / 8 + 2 * biases for share in (0.5, 0.7)),
    ]
    # Names, shapes and kept units are ten thousand bytes more; each row has a whole number of zeros.
    assert sizes == pytest.approx(expected, rel=0.02)


def test_units_and_where_they_came_from(tmp_path: Path, encoder: Ge2eEncoder) -> None:
    smaller = keep_widths(encoder, (6, 5, 4))
    found = load_ge2e(save_ge2e(tmp_path / "x.safetensors", smaller)).encoder
    assert found.units == (6, 5, 4)
    assert found.kept == smaller.kept
    mels, lengths = torch.rand(20, 3, 40), torch.tensor([20, 10, 5])
    torch.testing.assert_close(found(mels, lengths), smaller(mels, lengths), rtol=0, atol=1e-2)


def test_weights_that_are_too_large(tmp_path: Path, encoder: Ge2eEncoder) -> None:
    encoder.linear.weight[0, 0] = 1e6
    with pytest.raises(InputError, match=r"linear\.weight: has weights that float16 can't hold"):
        save_ge2e(tmp_path / "x.safetensors", encoder)
    assert not (tmp_path / "x.safetensors").exists()


def test_other_files(tmp_path: Path, encoder: Ge2eEncoder) -> None:
    with pytest.raises(MissingRequirementError, match=r"x\.safetensors"):
        load_ge2e(tmp_path / "x.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(MissingRequirementError, match="no GE2E encoder"):
        load_ge2e(tmp_path / "x.safetensors")


@pytest.mark.parametrize("suffix", [".bits", ".values"])
def test_damaged_zeros(tmp_path: Path, encoder: Ge2eEncoder, suffix: str) -> None:
    path = save_ge2e(tmp_path / "x.safetensors", prune_rows(encoder, 0.5))
    state, said = load_file(path), dict(read_metadata(path))
    state["linear.weight" + suffix] = state["linear.weight" + suffix][:-1].clone()
    save_file(state, path, metadata=said)
    with pytest.raises(InputError, match=r"linear\.weight: its bits and its values"):
        load_ge2e(path)
    del state["linear.weight" + suffix]
    save_file(state, path, metadata=said)
    with pytest.raises(MissingRequirementError, match=r"linear\.weight"):
        load_ge2e(path)


def test_metadata_that_says_nothing(tmp_path: Path, encoder: Ge2eEncoder) -> None:
    path = save_ge2e(tmp_path / "x.safetensors", encoder)
    save_file(load_file(path), path, metadata={**read_metadata(path), "encoder": "{}"})
    with pytest.raises(InputError, match="can't be read"):
        load_ge2e(path)
