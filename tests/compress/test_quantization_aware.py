"""Training with quantization in sight: what is trained on is what comes out, and gradients arrive everywhere."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("torchao", reason="quantizing needs torchao")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nn"))

from small_networks import noise, shaken, small

from diarbench.compress.quantization_aware import convert, prepare, prepared_mode, unprepared
from diarbench.compress.quantize import quantize, sqnr
from diarbench.errors import InputError, MissingRequirementError
from diarbench.nn import quantized
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantized import Kernel
from diarbench.nn.quantmodes import KINDS, quant_mode

HEAD = HeadShape(units=16, feed_forward=32, heads=2, blocks=1, kernel=5)
INTEGERS = ["w8", "w4", "w8a8-dynamic", "w4a8-dynamic", "w8a8-static"]


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "pyannet":
        return PyanNet(PyanNetShape(lstm=(9, 8), linear=(6,)))
    return shaken(Eend(small("base"), HEAD))


def trained(prepared: nn.Module, samples: Tensor, steps: int = 3) -> float:
    """A few steps towards a class that was drawn; the last loss over the first."""
    prepared.train()
    optimizer = torch.optim.Adam(prepared.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        scores = prepared(samples)
        loss = -scores[..., 2].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    prepared.eval()
    return losses[-1] / losses[0]


@pytest.mark.parametrize("kind", ["eend", "pyannet"])
@pytest.mark.parametrize("name", INTEGERS)
def test_what_was_trained_is_what_comes_out(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(1, 8000)
    prepared = prepare(network(kind), quant_mode(name, group=8 if "w4" in name else 0, covers=KINDS))
    assert trained(prepared, samples) < 1
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in rounded(prepared))
    # Kernels sum in another order, and a sum that is another by its last bit may be rounded to another code.
    monkeypatch.setattr(quantized, "_int8_kernel", lambda *_: Kernel(False, "switched off"))
    done = convert(prepared, calibration=[samples])
    assert done.report.method == "qat"
    with torch.inference_mode():
        found, expected = done.network(samples), prepared(samples)
    if name.endswith("static"):  # it was trained on each frame's own range
        assert sqnr(expected, found) > 30
    else:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert sqnr(found, unprepared(prepared)(samples)) < 90  # the rounding is really there


def rounded(prepared: nn.Module) -> list[nn.Parameter]:
    """The weights that are rounded in training."""
    modules = [module for module in prepared.modules() if hasattr(module, "rounded_weights")]
    return [module.get_parameter(name) for module in modules for name in module.rounded_weights]


def test_names_and_shapes_are_the_float_networks() -> None:
    plain = network("eend")
    prepared = prepare(plain, quant_mode("w4a8-dynamic", covers=KINDS))
    state = prepared.state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in plain.state_dict().items()
    }
    assert [name for name, _ in prepared.named_parameters()] == [name for name, _ in plain.named_parameters()]
    again = unprepared(prepared)
    assert all(type(a) is type(b) for a, b in zip(again.modules(), plain.modules(), strict=True))
    with torch.inference_mode():
        assert torch.equal(again(noise()), plain(noise()))
    assert prepared_mode(again) is None
    again.load_state_dict(state)


def test_training_alone_changes_nothing_that_quantizing_does_not() -> None:
    """Prepared and converted at once is what post-training quantization gives."""
    plain = network("pyannet").eval()
    mode = quant_mode("w4a8-static", group=0)
    with torch.inference_mode():
        expected = quantize(plain, mode, calibration=[noise()]).network(noise())
        assert torch.equal(convert(prepare(plain, mode), calibration=[noise()]).network(noise()), expected)


def test_a_prepared_network_can_be_copied_in_the_middle_of_training() -> None:
    prepared = prepare(network("pyannet"), quant_mode("w8a8-dynamic"))
    trained(prepared, noise(1, 8000), steps=1)
    twin = copy.deepcopy(prepared)
    with torch.inference_mode():
        assert torch.equal(twin(noise()), prepared(noise()))


def test_training_recovers_what_rounding_took() -> None:
    """A layer of 4 bits learns to do what the float layer does, nearer than by rounding it."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    mode = quant_mode("w4", group=0)
    frames, held_out = torch.randn(2048, 16), torch.randn(512, 16)
    with torch.inference_mode():
        wanted = plain(held_out)
        at_once = sqnr(wanted, quantize(plain, mode).network(held_out))
    prepared = prepare(plain, mode)
    optimizer = torch.optim.Adam(prepared.parameters(), lr=1e-3)
    fading = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)  # else codes keep jumping to and fro
    target = plain(frames).detach()
    for _ in range(200):
        loss = (prepared(frames) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fading.step()
    with torch.inference_mode():
        assert sqnr(wanted, convert(prepared).network(held_out)) > at_once + 2  # dB


def test_ge2e_trains_too() -> None:
    encoder = Ge2eEncoder((8, 8, 8))
    prepared = prepare(encoder, quant_mode("w8a8-dynamic", skip=["layers.0"]))
    frames = torch.rand(12, 2, 40)
    for layer in prepared.layers:
        frames, _ = layer(frames)
    frames.square().mean().backward()
    assert type(prepared.layers[0]) is nn.LSTM
    assert all(parameter.grad is not None for parameter in prepared.layers.parameters())


def test_what_can_not_be_done_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nn.Sequential(nn.Linear(8, 8))
    prepared = prepare(plain, quant_mode("w8"))
    for call, message in (
        (lambda: prepare(plain, quant_mode("bf16")), "bf16 needs no training of its own"),
        (lambda: prepare(prepared, quant_mode("w8")), "quantized, or prepared, already"),
        (lambda: prepare(quantize(plain, quant_mode("w8")).network, quant_mode("w8")), "quantized, or prepared, al"),
        (lambda: prepare(plain, quant_mode("w8", covers=["conv"])), "w8 covers nothing of Sequential"),
        (lambda: convert(plain), "was not prepared for training"),
        (lambda: quantize(prepared, quant_mode("w8")), "prepared for training: convert it instead"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    monkeypatch.setitem(sys.modules, "torchao.quantization.qat", None)
    with pytest.raises(MissingRequirementError, match="needs torchao: pip install"):
        prepare(plain, quant_mode("w8"))
