"""Modules that compute with codes: against plain arithmetic on the weights that the codes stand for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("torchao", reason="quantizing needs torchao")

from diarbench.compress.quantize import quantize, sqnr
from diarbench.errors import InputError
from diarbench.nn import quantized
from diarbench.nn.quantized import (
    IntWeight,
    Kernel,
    QuantLinear,
    QuantLSTM,
    install,
    kernels,
    lstm_of_rounded,
    quant_modules,
    scale_and_zero,
)
from diarbench.nn.quantmodes import KINDS, MODES, Quantization, QuantMode, quant_mode, quantization_of_table

CPU = torch.device("cpu")
has_int8 = pytest.mark.skipif(
    not kernels(quant_mode("w8a8-dynamic"), CPU)["linear"].real, reason="this CPU has no VNNI instructions"
)


def linear(name: str, **options: int) -> tuple[nn.Linear, QuantLinear, torch.Tensor]:
    torch.manual_seed(0)
    plain, frames = nn.Sequential(nn.Linear(64, 24)), torch.randn(2, 50, 64) + 0.3
    made = quantize(plain, quant_mode(name, **options), calibration=[frames]).network[0]
    assert isinstance(made, QuantLinear)
    return plain[0], made, frames


@has_int8
@pytest.mark.parametrize("name", ["w8a8-dynamic", "w8a8-static"])
@torch.inference_mode()
def test_the_int8_kernel_gives_what_the_simulation_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, made, frames = linear(name)
    real = made(frames)
    monkeypatch.setattr(quantized, "_int8_kernel", lambda *_: Kernel(False, "switched off"))
    torch.testing.assert_close(made(frames), real, rtol=1e-5, atol=1e-5)
    assert not torch.equal(made(frames), real)  # two ways of computing it


@torch.inference_mode()
def test_zero_stays_zero_and_ranges_hold_it() -> None:
    for low, high in ((-1.0, 2.0), (0.5, 3.0), (-4.0, -1.0), (0.0, 0.0)):
        scale, zero = scale_and_zero(torch.tensor(low), torch.tensor(high))
        assert zero == zero.round()
        assert -128 <= zero <= 127
        reach = sorted([(-128 - zero) * scale, (127 - zero) * scale])
        assert reach[0] <= min(low, 0) + scale
        assert reach[1] >= max(high, 0) - scale


@pytest.mark.parametrize("name", ["w8", "w4"])
@torch.inference_mode()
def test_weight_only_is_a_float_product_with_the_weights_that_codes_stand_for(name: str) -> None:
    plain, made, frames = linear(name)
    assert isinstance(made.weight, IntWeight)
    assert made.weight.codes.unique().numel() <= 2**made.weight.bits
    steps = made.weight.scale.repeat_interleave(64 // made.weight.scale.shape[1], dim=1)
    assert ((made.weight.dense() - plain.weight).abs() <= 0.5001 * steps).all()
    plain.weight.copy_(made.weight.dense())
    assert torch.equal(plain(frames), made(frames))


@pytest.mark.parametrize(("both", "first", "bias"), [(True, True, True), (False, False, True), (True, False, False)])
@torch.inference_mode()
def test_lstms_compute_as_torch_does_on_the_same_weights(both: bool, first: bool, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.LSTM(10, 7, bidirectional=both, batch_first=first, bias=bias)
    frames = torch.randn(5, 6, 10)
    made = quantize(plain_in(plain), quant_mode("w8")).network[0]
    assert isinstance(made, QuantLSTM)
    same = copy.deepcopy(plain)
    for name, parameter in same.named_parameters():
        if "weight" in name:
            parameter.copy_(made.get_submodule(name).dense())
    weights = {name: parameter for name, parameter in same.named_parameters() if "weight" in name}
    stepwise = lstm_of_rounded(same, frames, weights, lambda tensor: tensor)
    for found in (made(frames), stepwise):
        torch.testing.assert_close(found, same(frames))


def plain_in(module: nn.Module) -> nn.Sequential:
    return nn.Sequential(module)


@torch.inference_mode()
def test_the_state_of_an_lstm_has_eight_bits() -> None:
    seen = []

    def rounding(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(tensor.round())
        return seen[-1]

    plain = nn.LSTM(4, 3)
    weights = {name: parameter for name, parameter in plain.named_parameters() if "weight" in name}
    lstm_of_rounded(plain, 9 * torch.randn(20, 2, 4), weights, rounding)
    assert len(seen) == 20
    assert max(state.abs().max() for state in seen) <= 127
    with pytest.raises(InputError, match="starts from nothing"):
        quantize(plain_in(plain), quant_mode("w8")).network[0](torch.randn(2, 2, 4), (None, None))


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@torch.inference_mode()
def test_halves_without_a_kernel_are_rounded_numbers_in_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, made, frames = linear(name)
    number = {"fp16": torch.float16, "bf16": torch.bfloat16}[name]
    monkeypatch.setattr(quantized, "_half_kernel", lambda *_: Kernel(False, "switched off"))
    rounded = [tensor.to(number).float() for tensor in (frames, plain.weight, plain.bias)]
    expected = nn.functional.linear(*rounded).to(number).float()
    assert torch.equal(made(frames), expected)
    assert made(frames).dtype == torch.float32


def test_modes_by_name() -> None:
    assert {name: quant_mode(name).name for name in MODES} == {name: name for name in MODES}
    assert quant_mode("w4").group == 32
    assert quant_mode("bf16").covers == KINDS
    for call, message in (
        (lambda: quant_mode("w8a8"), "no quantization 'w8a8'; known: w4, w4a8-dynamic"),
        (lambda: quant_mode("w8", covers=["lnear"]), "can't cover 'lnear'; did you mean linear"),
        (lambda: quant_mode("w8", covers=[]), "at least one of"),
        (lambda: quant_mode("w4", group=-1), "group is a number"),
        (lambda: quant_mode("bf16", group=32), "0 for halves"),
        (lambda: QuantMode("fp16", "static"), "no quantization of fp16 weights and static"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_tables_come_back_and_spoilt_ones_are_one_line() -> None:
    done = Quantization(quant_mode("w4a8-static", skip=["*.classifier"]), ("a", "b.c"), "qat")
    table = done.as_table()
    assert quantization_of_table(table, "here") == done
    for change, message in (
        ({"mode": "w5"}, "here: quantization: there is no quantization 'w5'"),
        ({"method": "magic"}, "method is 'magic', not ptq or qat"),
        ({"group": True}, "group is a whole number"),
        ({"modules": []}, "nothing is quantized"),
        ({"modules": "a"}, "modules is a list of texts"),
        ({"bits": 4}, "unknown key 'bits'"),
    ):
        with pytest.raises(InputError, match=message):
            quantization_of_table(table | change, "here")
    with pytest.raises(InputError, match="lacks modules"):
        quantization_of_table({key: value for key, value in table.items() if key != "modules"}, "here")
    with pytest.raises(InputError, match="is a table of"):
        quantization_of_table(["w8"], "here")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("9", "has no module '9'"),
        ("1", "'1' is a ReLU, which is not quantized"),
        ("2", "an LSTM of 2 layers"),
        ("", "'' is a Sequential"),
    ],
)
def test_only_what_has_a_quantized_form_is_replaced(path: str, message: str) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LSTM(4, 4, num_layers=2))
    with pytest.raises(InputError, match=message):
        install(network, Quantization(quant_mode("w8"), (path,)))
    assert not quant_modules(network)


def test_kernels_are_told_apart() -> None:
    for name in MODES:
        found = kernels(quant_mode(name, covers=KINDS), CPU)
        assert set(found) == set(KINDS)
        assert all(kernel.what for kernel in found.values())
        if name.startswith("w"):
            assert not found["lstm"].real
            assert not found["conv"].real
        if name.startswith("w4") or name == "w8":
            assert not found["linear"].real
    cuda = torch.device("cuda")
    with torch.device("meta"):
        odd = QuantLinear(nn.Linear(53, 7), quant_mode("w8a8-dynamic"))
    assert "multiples of 8, not 53 × 7" in odd.kernel(cuda).what
    assert not odd.kernel(torch.device("mps")).real


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MODES)
@torch.inference_mode()
def test_on_cuda_outputs_are_near_the_ones_here(name: str) -> None:
    torch.manual_seed(0)
    frames = torch.randn(3, 40, 64)
    network = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 7)).eval()
    made = quantize(network, quant_mode(name), calibration=[frames]).network
    assert sqnr(made(frames), copy.deepcopy(made).cuda()(frames.cuda()).cpu()) > 35
