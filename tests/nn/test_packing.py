"""Quantized networks in files: four bits are four bits, and what is read computes as what was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("torchao", reason="quantizing needs torchao")

from diarbench.compress.quantize import quantize
from diarbench.errors import DiarbenchError
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.nn.packing import load_network, pack_nibbles, read_metadata, save_network, unpack_nibbles
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantmodes import MODES, quant_mode

NARROW = PyanNetShape(lstm=(9, 8), linear=(6,))


@given(st.lists(st.integers(-8, 7), max_size=70))
def test_nibbles_come_back(codes: list[int]) -> None:
    packed = pack_nibbles(torch.tensor(codes, dtype=torch.int8))
    assert len(packed) == (len(codes) + 1) // 2
    assert unpack_nibbles(packed, (len(codes),)).tolist() == codes


@given(st.integers(1, 5), st.integers(1, 9))
def test_of_any_shape(rows: int, columns: int) -> None:
    codes = torch.randint(-8, 8, (rows, columns), dtype=torch.int8)
    assert torch.equal(unpack_nibbles(pack_nibbles(codes), (rows, columns)), codes)


def test_another_number_of_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="5 codes are 3 bytes"):
        unpack_nibbles(torch.zeros(4, dtype=torch.uint8), (5,))
    with pytest.raises(ValueError, match="int8"):
        unpack_nibbles(torch.zeros(3, dtype=torch.int8), (5,))


@pytest.mark.parametrize("name", MODES)
@torch.inference_mode()
def test_a_loaded_network_computes_as_the_one_in_memory(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = torch.randn(2, 16000)
    done = quantize(PyanNet(NARROW), quant_mode(name), calibration=[samples])
    path = save_network(tmp_path / "net.safetensors", done.network, about={"shape": "narrow"})
    assert json.loads(read_metadata(path)["about"]) == {"shape": "narrow"}
    with torch.device("meta"):
        empty = PyanNet(NARROW)
    for start in (PyanNet(NARROW), empty):
        assert torch.equal(load_network(path, start)(samples), done.network(samples))


def test_four_bits_take_half_of_eight(tmp_path: Path) -> None:
    maps = nn.Sequential(nn.Linear(512, 513, bias=False))
    sizes = {}
    for name in ("w4", "w8"):
        network = quantize(maps, quant_mode(name, group=0)).network
        sizes[name] = save_network(tmp_path / f"{name}.safetensors", network).stat().st_size
    assert sizes["w8"] - sizes["w4"] == pytest.approx(512 * 513 / 2, abs=20)


@torch.inference_mode()
def test_ge2e_goes_into_a_file_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = Ge2eEncoder((16, 16, 16)).eval()
    inputs = (torch.rand(30, 3, 40), torch.tensor([30, 20, 7]))
    done = quantize(encoder, quant_mode("w8a8-static", skip=("layers.0",)), calibration=[inputs])
    assert [module.path for module in done.report.covered] == ["layers.1", "layers.2", "linear"]
    loaded = load_network(save_network(tmp_path / "ge2e.safetensors", done.network), Ge2eEncoder((16, 16, 16)))
    assert type(loaded.layers[0]) is nn.LSTM
    assert torch.equal(loaded(*inputs), done.network(*inputs))


def test_a_float_network_needs_no_torchao_to_be_written(tmp_path: Path) -> None:
    network = PyanNet(NARROW).eval()
    loaded = load_network(save_network(tmp_path / "net.safetensors", network), PyanNet(NARROW))
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    network = quantize(PyanNet(NARROW), quant_mode("w4")).network
    path = save_network(tmp_path / "net.safetensors", network)
    with pytest.raises(DiarbenchError, match=r"has no module 'lstm.layers.1' to be quantized"):
        load_network(path, PyanNet(PyanNetShape(lstm=(9,), linear=(6,))))
    with pytest.raises(DiarbenchError, match=r"weight_ih_l0.codes: 2400 codes are 1200 bytes, not \(1080,\)"):
        load_network(path, PyanNet(PyanNetShape(lstm=(10, 8), linear=(6,))))
    with pytest.raises(DiarbenchError, match="Sequential only holds a quantized network"):
        save_network(path, nn.Sequential(network))
