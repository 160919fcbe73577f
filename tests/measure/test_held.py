"""Weights and bytes by number type, of networks as they are quantized today."""

from __future__ import annotations

from typing import Any

import pytest

from diarbench.measure.held import Holding, held_weights, is_quantized
from diarbench.types import HeldWeights

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

if torch.backends.quantized.engine == "none":
    pytest.skip("this build of torch has no quantized kernels", allow_module_level=True)


def quantized(network: nn.Module, kinds: Any, **how: Any) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(network, kinds, **how)


def nonzero(network: nn.Module) -> int | None:
    holding = Holding()
    holding.add(network)
    return holding.nonzero


def test_plain_number_types():
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2)):
        network = nn.Linear(4, 3).to(dtype)
        assert held_weights(network) == {str(dtype).removeprefix("torch."): HeldWeights(15, 15 * size)}
        assert not is_quantized(network)


def test_statistics_and_masks_are_no_weights():
    network = nn.BatchNorm1d(3)
    network.register_buffer("mask", torch.zeros(5, dtype=torch.bool))
    assert held_weights(network) == {"float32": HeldWeights(6, 24)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
class TestTorchAo:
    """What PyTorch's own quantization packs away."""

    def test_linear_and_lstm(self):
        network = nn.ModuleList([nn.Linear(4, 3), nn.LSTM(3, 5, 2, bidirectional=True)])
        found = quantized(network, {nn.Linear, nn.LSTM})
        # Nine matrices of one scale and zero point each, 16 bytes; biases stay as they were.
        matrices, biases = 12 + 2 * 20 * (3 + 5) + 2 * 20 * (10 + 5), 3 + 4 * 40
        assert held_weights(found) == {
            "int8": HeldWeights(matrices, matrices + 9 * 16),
            "float32": HeldWeights(biases, 4 * biases),
        }
        assert matrices + biases == sum(weight.numel() for weight in network.parameters())
        assert is_quantized(found)

    def test_gru_and_cells(self):
        for network, kind in ((nn.GRU(3, 5), nn.GRU), (nn.LSTMCell(3, 5), nn.LSTMCell)):
            found = held_weights(quantized(nn.Sequential(network), {kind}))
            assert sum(part.weights for part in found.values()) == sum(w.numel() for w in network.parameters())
            assert found["float32"].weights == 2 * len(network.bias_ih_l0 if kind is nn.GRU else network.bias_ih)

    def test_float16(self):
        found = quantized(nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 5)), {nn.Linear, nn.LSTM}, dtype=torch.float16)
        assert held_weights(found) == {
            "float16": HeldWeights(12 + 160, 2 * 172),
            "float32": HeldWeights(3 + 40, 4 * 43),
        }
        assert is_quantized(found)

    def test_a_scale_for_each_row(self):
        how = torch.ao.quantization.per_channel_dynamic_qconfig
        found = held_weights(quantized(nn.Sequential(nn.Linear(8, 5, bias=False)), {nn.Linear: how}))
        assert found["int8"] == HeldWeights(40, 40 + 5 * 16)  # a double and an int64 per row

    def test_codes_that_are_the_zero_point_are_zero(self):
        layer = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, 0.0, -0.5, 0.0], [0.0, 1e-6, 0.25, -1.0]]))
        found = nn.Sequential(layer)
        assert nonzero(found) == 5
        assert nonzero(quantized(found, {nn.Linear})) == 4  # 1e-6 has become zero

    def test_static_convolution(self):
        network = nn.Sequential(nn.Conv1d(2, 3, 3)).eval()
        network.qconfig = torch.ao.quantization.default_qconfig
        prepared = torch.ao.quantization.prepare(network)
        prepared(torch.randn(1, 2, 9))
        found = torch.ao.quantization.convert(prepared)
        assert held_weights(found) == {"int8": HeldWeights(18, 18 + 16), "float32": HeldWeights(3, 12)}


def test_codes_in_buffers_and_their_scales():
    network = nn.Module()
    network.bias = nn.Parameter(torch.ones(3))
    network.register_buffer("codes", torch.tensor([[1, 0, -3, 4]] * 3, dtype=torch.int8))
    network.register_buffer("scale", torch.ones(3))
    network.register_buffer("window", torch.ones(100))
    network.register_buffer("scratch", torch.ones(7, dtype=torch.int8), persistent=False)
    assert held_weights(network) == {"int8": HeldWeights(12, 12 + 12), "float32": HeldWeights(3, 12)}
    assert nonzero(network) == 9 + 3
    assert is_quantized(network)


def test_zero_points_of_a_byte_are_no_weights():
    network = nn.Module()
    network.register_buffer("weight", torch.ones(4, 6, dtype=torch.uint8))
    network.register_buffer("weight_scale", torch.ones(4))
    network.register_buffer("weight_zero_point", torch.ones(4, dtype=torch.uint8))
    assert held_weights(network) == {"uint8": HeldWeights(24, 24 + 16 + 4)}


def test_masks_of_bytes_and_tables_of_integers_are_not_quantized():
    network = nn.Linear(4, 3)
    network.register_buffer("mask", torch.ones(5, 5, dtype=torch.uint8))
    network.register_buffer("table", torch.arange(9))
    network.order = nn.Parameter(torch.arange(3), requires_grad=False)
    assert held_weights(network) == {"float32": HeldWeights(15, 60), "int64": HeldWeights(3, 24)}
    assert not is_quantized(network)


class Wrapped(torch.Tensor):
    """Codes and a scale behind the face of a float tensor, as torchao does it; two codes to a byte with 4 bits."""

    @staticmethod
    def __new__(cls, codes: Any, scale: Any, shape: Any, readable: bool = True) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)

    def __init__(self, codes: Any, scale: Any, shape: Any, readable: bool = True) -> None:
        self.codes, self.scale, self.readable = codes, scale, readable

    def dequantize(self) -> Any:
        if not self.readable:
            raise NotImplementedError
        return self.codes * self.scale

    def __tensor_flatten__(self) -> Any:
        return ["codes", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return args[0]
        raise NotImplementedError(function)


def test_tensor_subclasses():
    network = nn.Module()
    codes = torch.tensor([[5, 0], [0, -7]], dtype=torch.int8)
    network.weight = nn.Parameter(Wrapped(codes, torch.ones(2, 1), (2, 2)), requires_grad=False)
    assert held_weights(network) == {"int8": HeldWeights(4, 4 + 8)}
    assert nonzero(network) == 2
    assert is_quantized(network)


def test_four_bits_and_a_format_that_tells_no_zeros():
    network = nn.Module()
    codes = torch.zeros(64, dtype=torch.uint8)
    network.weight = nn.Parameter(Wrapped(codes, torch.ones(1), (8, 16), readable=False), requires_grad=False)
    assert held_weights(network) == {"int4": HeldWeights(128, 64 + 4)}
    assert nonzero(network) is None


def test_what_two_networks_share_counts_once():
    shared = nn.Linear(4, 3)
    holding = Holding()
    assert holding.add(nn.Sequential(shared, nn.Linear(3, 2))) == 15 + 8
    assert holding.add(nn.Sequential(shared)) == 0
    assert holding.total == 23


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_is_packed_counts_once_too():
    packed = quantized(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})
    holding = Holding()
    assert [holding.add(packed), holding.add(packed[0])] == [15, 0]
