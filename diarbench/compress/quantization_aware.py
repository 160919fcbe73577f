"""Training with quantization in sight: weights and activations are rounded on the way forward, gradients pass.

network = prepare(network, mode)      # the same parameters by the same names: any training loop takes it
...                                   # training
quantized = convert(network, calibration=batches)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarbench.compress.quantize import NO_TORCHAO, Batch, Quantized, plan, quantize
from diarbench.errors import InputError, MissingRequirementError
from diarbench.nn.quantized import lstm_of_rounded, quantization_in
from diarbench.nn.quantmodes import QuantMode
from diarbench.nn.wavlm import PositionalConvolution

Network = TypeVar("Network", bound=nn.Module)
_WEIGHTS, _INPUTS, _MATRIX = "rounded_weights", "rounded_inputs", "weight"


def prepare(network: Network, mode: QuantMode) -> Network:
    """A copy whose covered modules round what they compute with, to be trained as any other.

    Names and shapes of its parameters are those of the network, so that its state dict is a float network's. Static
    modes train with each frame's own range, as dynamic ones do; calibration comes after training. Raises
    MissingRequirementError without torchao; InputError where the mode is one of halves, covers nothing, or the network
    is quantized or prepared already.
    """
    if mode.half:
        raise InputError(f"{mode.name} needs no training of its own: quantize after training")
    if quantization_in(network) is not None or prepared_mode(network) is not None:
        raise InputError("this network is quantized, or prepared, already")
    covered, _ = plan(network, mode)
    if not covered:
        raise InputError(f"{mode.name} covers nothing of {type(network).__name__}")
    result = copy.deepcopy(network)
    for path, kind in covered.items():
        module = result.get_submodule(path)
        rounding = nn.ModuleDict({name: _rounded_rows(weight, mode) for name, weight in _matrices(module)})
        module.add_module(_WEIGHTS, rounding)
        module.add_module(_INPUTS, None if mode.activations == "float" or kind == "conv" else _rounded_frames())
        # The module stays what it is, with its parameters, so that optimizers, checkpoints and `convert` need know
        # nothing: only its way forward is another.
        module.__class__ = _FAKES[type(module)]
    result.prepared = mode  # type: ignore[assignment]
    return result


def unprepared(network: Network) -> Network:
    """A copy of a prepared network as a float network: what was trained, without any rounding."""
    plain = copy.deepcopy(network)
    originals = {fake: original for original, fake in _FAKES.items()}
    for module in plain.modules():
        if type(module) in originals:
            module.__class__ = originals[type(module)]
            delattr(module, _WEIGHTS)
            delattr(module, _INPUTS)
    if hasattr(plain, "prepared"):
        del plain.prepared
    return plain


def convert(
    network: Network, *, calibration: Iterable[Batch] | None = None, check: Sequence[Batch] | None = None
) -> Quantized[Network]:
    """What a prepared network becomes after training; the rest is as in `quantize`, and so are the errors.

    The report compares outputs with those of the trained weights in float32. Raises InputError for a network that was
    not prepared.
    """
    mode = prepared_mode(network)
    if mode is None:
        raise InputError("this network was not prepared for training: call prepare before, or quantize instead")
    return quantize(unprepared(network), mode, calibration=calibration, check=check, method="qat")


def prepared_mode(network: nn.Module) -> QuantMode | None:
    """What a network was prepared for; None for one that was not."""
    mode = getattr(network, "prepared", None)
    return mode if isinstance(mode, QuantMode) else None


class _FakeLinear(nn.Linear):
    def forward(self, frames: Tensor) -> Tensor:
        return functional.linear(_round_inputs(self, frames), _round_weight(self, _MATRIX, self.weight), self.bias)


class _FakeLSTM(nn.LSTM):
    def forward(self, frames: Tensor, state: None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        from torchao.quantization.quant_primitives import _Round  # as the rounding of weights and activations

        if state is not None:
            raise InputError("an LSTM that is trained for quantization starts from nothing, and takes no state")
        weights = {name: _round_weight(self, name, weight) for name, weight in _matrices(self)}
        if getattr(self, _INPUTS) is not None:
            return lstm_of_rounded(self, _round_inputs(self, frames), weights, _Round.apply)
        flat = [weights.get(name, parameter) for name, parameter in self.named_parameters(recurse=False)]
        batch = frames.shape[0 if self.batch_first else 1]
        start = frames.new_zeros(2 if self.bidirectional else 1, batch, self.hidden_size)
        outputs, hidden, cells = torch.lstm(
            frames, (start, start), flat, self.bias, 1, 0.0, self.training, self.bidirectional, self.batch_first
        )
        return outputs, (hidden, cells)


class _FakeConv1d(nn.Conv1d):
    def forward(self, channels: Tensor) -> Tensor:
        frames: Tensor = self._conv_forward(channels, _round_weight(self, _MATRIX, self.weight), self.bias)
        return frames


class _FakePosition(PositionalConvolution):
    def forward(self, frames: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(self.direction, dim=(0, 1), keepdim=True)
        weight = _round_weight(self, "direction", self.direction * (self.gain / norm))
        padding = weight.shape[2] // 2
        channels = functional.conv1d(frames.transpose(1, 2), weight, self.bias, padding=padding, groups=self.groups)
        return functional.gelu(channels[..., : frames.shape[1]]).transpose(1, 2)


_FAKES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _FakeLinear,
    nn.LSTM: _FakeLSTM,
    nn.Conv1d: _FakeConv1d,
    PositionalConvolution: _FakePosition,
}


def _matrices(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters that are quantized: all with rows and columns, but not the gains of a weight norm."""
    named = module.named_parameters(recurse=False)
    return [(name, weight) for name, weight in named if weight.ndim > 1 and name != "gain"]


def _round_weight(module: nn.Module, name: str, weight: Tensor) -> Tensor:
    rounding = getattr(module, _WEIGHTS)[name]
    rounded: Tensor = rounding(weight.flatten(1))
    return rounded.reshape(weight.shape)


def _round_inputs(module: nn.Module, frames: Tensor) -> Tensor:
    rounding: Callable[[Tensor], Tensor] | None = getattr(module, _INPUTS)
    return frames if rounding is None else rounding(frames)


def _rounded_rows(weight: Tensor, mode: QuantMode) -> nn.Module:
    columns = weight.flatten(1).shape[1]
    group = mode.group_of(columns)
    rows: dict[str, Any] = {"granularity": "per_channel"} if group == columns else {"group_size": group}
    number = torch.int8 if mode.bits == 8 else getattr(torch, "int4")  # noqa: B009 - unknown to type checkers
    return _fake_quantizer(number, is_symmetric=True, **rows)


def _rounded_frames() -> nn.Module:
    return _fake_quantizer(torch.int8, is_symmetric=False, granularity="per_token")


def _fake_quantizer(number: torch.dtype, **settings: Any) -> nn.Module:
    try:
        from torchao.quantization.qat import IntxFakeQuantizeConfig, IntxFakeQuantizer
    except ImportError as error:
        raise MissingRequirementError(NO_TORCHAO) from error
    quantizer: nn.Module = IntxFakeQuantizer(
        IntxFakeQuantizeConfig(number, eps=torch.finfo(torch.float32).eps, **settings)
    )
    return quantizer
