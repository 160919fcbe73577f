"""Modules that compute with quantized weights, in place of linear maps, LSTMs and convolutions.

Shape letters: R rows (outputs), K columns (inputs of a row), G groups of a row, B windows, T frames, D directions,
H hidden units. How such modules are made is `diarbench.compress.quantize`'s affair; how they lie in files, packing's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import InputError
from diarbench.nn.quantmodes import Quantization, QuantMode
from diarbench.nn.wavlm import PositionalConvolution

LOW, HIGH = -128, 127  # codes of an activation
STATE_LEVELS = 127  # steps from 0 to 1 of an LSTM's state, which lies between -1 and 1 by itself
_LEAST = torch.finfo(torch.float32).eps  # the smallest scale, torchao's
_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_CUBLAS_ROWS, _CUBLAS_MULTIPLE = 16, 8  # CUDA's product of int8 takes more rows than this, and such widths


class Kernel(NamedTuple):
    """What computes a module: a product of its numbers as they are, or float32 with numbers rounded before."""

    real: bool
    what: str  # the kernel, or why there is none


class IntWeight(nn.Module):
    """A matrix as int8 codes, of 8 or 4 bits, with a scale for each group of a row."""

    codes: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], mode: QuantMode) -> None:
        super().__init__()
        self.shape, self.bits = shape, mode.bits
        rows, columns = shape[0], math.prod(shape[1:])
        self.register_buffer("codes", torch.zeros(rows, columns, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(rows, columns // mode.group_of(columns)))

    def dense(self) -> Tensor:
        """The weights as float32, in the shape that they had."""
        rows, groups = self.scale.shape
        return (self.codes.float().reshape(rows, groups, -1) * self.scale[:, :, None]).reshape(self.shape)


class HalfWeight(nn.Module):
    """A tensor of 16-bit floating-point numbers."""

    def __init__(self, shape: tuple[int, ...], mode: QuantMode) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(shape, dtype=_HALVES[mode.number]), requires_grad=False)

    def dense(self) -> Tensor:
        """The weights as float32."""
        return self.values.float()


Weight = IntWeight | HalfWeight


class Inputs(nn.Module):
    """How what a module is given is rounded to 8 bits: over each frame's own range, or over one that was calibrated."""

    scale: Tensor | None
    zero: Tensor | None

    def __init__(self, *, static: bool) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()) if static else None)
        self.register_buffer("zero", torch.zeros(()) if static else None)

    def codes(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, whole numbers in float32 (..., K), and their scales and zero points, which broadcast to (..., 1)."""
        if self.scale is None or self.zero is None:
            scale, zero = scale_and_zero(frames.amin(-1, keepdim=True), frames.amax(-1, keepdim=True))
        else:
            scale, zero = self.scale, self.zero
        return torch.round(frames * (1.0 / scale)).add_(zero).clamp_(LOW, HIGH), scale, zero

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (..., K) as 8 bits can hold them."""
        codes, scale, zero = self.codes(frames)
        return (codes - zero) * scale


def scale_and_zero(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Of a range that is widened to hold 0, so that 0 stays 0: torchao's asymmetric mapping to int8."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / (HIGH - LOW)).clamp(min=_LEAST)
    return scale, (LOW - torch.round(low / scale)).clamp(LOW, HIGH)


class QuantLinear(nn.Module):
    """A linear map."""

    bias: Tensor | None

    def __init__(self, linear: nn.Linear, mode: QuantMode) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = _weight(tuple(linear.weight.shape), mode)
        _take_biases(self, linear, ("bias",), mode)
        self.inputs = _inputs(mode)
        self._sums: Tensor | None = None

    def forward(self, frames: Tensor) -> Tensor:
        """(..., K) to (..., R)."""
        weight = self.weight
        if isinstance(weight, HalfWeight):
            return _in_half(functional.linear, frames, weight.values, self.bias)
        if self.inputs is None:
            return functional.linear(frames, weight.dense(), self.bias)
        rows = frames.flatten(0, -2)
        if not self.kernel(frames.device, len(rows)).real:
            return functional.linear(self.inputs(frames), weight.dense(), self.bias)
        codes, scale, zero = self.inputs.codes(rows)
        products = torch._int_mm(codes.to(torch.int8), weight.codes.t())  # int32: exact
        products.addcmul_(zero.to(torch.int32), self._row_sums(weight.codes), value=-1)
        outputs = products.float().mul_(scale).mul_(weight.scale[:, 0])
        if self.bias is not None:
            outputs.add_(self.bias)
        return outputs.reshape(*frames.shape[:-1], -1)

    def kernel(self, device: torch.device, rows: int = 1 << 30) -> Kernel:
        """What computes so many rows at once on a device."""
        if isinstance(self.weight, HalfWeight):
            return _half_kernel(self.weight.values.dtype, device)
        if self.inputs is None:
            return Kernel(False, "weight-only: dequantized, then multiplied in float32")
        if self.weight.bits != 8 or self.weight.scale.shape[1] != 1:
            return Kernel(False, "PyTorch has no kernel for 4-bit weights, or groups, with 8-bit activations here")
        return _int8_kernel(device, rows, self.in_features, self.out_features)

    def _row_sums(self, codes: Tensor) -> Tensor:
        if self._sums is None or self._sums.device != codes.device:
            self._sums = codes.sum(dim=1, dtype=torch.int32)
        return self._sums

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._sums = None
        super()._load_from_state_dict(*arguments)


class QuantLSTM(nn.Module):
    """One LSTM layer, one way or both ways; with 8-bit activations, its state from step to step has 8 bits as well."""

    def __init__(self, lstm: nn.LSTM, mode: QuantMode) -> None:
        super().__init__()
        self.hidden_size, self.batch_first, self.bidirectional = lstm.hidden_size, lstm.batch_first, lstm.bidirectional
        self.bias = lstm.bias
        self.suffixes = ("_l0", "_l0_reverse") if lstm.bidirectional else ("_l0",)
        for name in self._names("weight_ih", "weight_hh"):
            setattr(self, name, _weight(tuple(lstm.get_parameter(name).shape), mode))
        _take_biases(self, lstm, tuple(self._names("bias_ih", "bias_hh")) if lstm.bias else (), mode)
        self.inputs = _inputs(mode)

    def forward(self, frames: Tensor, state: None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, K), or (T, B, K) unless `batch_first`, to the same with D·H outputs, and the last states (D, B, H)."""
        if state is not None:
            raise InputError("a quantized LSTM starts from nothing: a state can't be handed to it")
        if isinstance(self.get_submodule("weight_ih_l0"), HalfWeight):
            return self._half(frames)
        weights = {name: self._weight(name).dense() for name in self._names("weight_ih", "weight_hh")}
        if self.inputs is not None:
            return lstm_of_rounded(self, self.inputs(frames), weights, torch.round)
        return self._fused(frames, weights)

    def kernel(self, device: torch.device, rows: int = 1) -> Kernel:
        """What computes it on a device."""
        weight = self.get_submodule("weight_ih_l0")
        if isinstance(weight, HalfWeight):
            return _half_kernel(weight.values.dtype, device)
        return Kernel(False, "torchao has no LSTM, and torch.ao's, which is deprecated, rounds otherwise")

    def _half(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        weights: dict[str, Tensor] = {
            name: self.get_submodule(name).get_parameter("values") for name in self._names("weight_ih", "weight_hh")
        }
        number = weights["weight_ih_l0"].dtype
        real = _half_kernel(number, frames.device).real
        rounded = frames.to(number)
        if not real:
            weights, rounded = {name: weight.float() for name, weight in weights.items()}, rounded.float()
        outputs, (hidden, cells) = self._fused(rounded, weights)
        return outputs.to(number).to(frames.dtype), (hidden.to(frames.dtype), cells.to(frames.dtype))

    def _fused(self, frames: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """torch's own LSTM on dense weights."""
        flat = []
        for suffix in self.suffixes:
            flat += [weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"]]
            if self.bias:
                flat += [self.get_parameter(f"bias_{kind}{suffix}").to(frames.dtype) for kind in ("ih", "hh")]
        batch = frames.shape[0 if self.batch_first else 1]
        start = frames.new_zeros(len(self.suffixes), batch, self.hidden_size)
        outputs, hidden, cells = torch.lstm(
            frames, (start, start), flat, self.bias, 1, 0.0, False, self.bidirectional, self.batch_first
        )
        return outputs, (hidden, cells)

    def _weight(self, name: str) -> IntWeight:
        weight = self.get_submodule(name)
        assert isinstance(weight, IntWeight)
        return weight

    def _names(self, *kinds: str) -> list[str]:
        return [f"{kind}{suffix}" for suffix in self.suffixes for kind in kinds]


def lstm_of_rounded(
    layer: Any, frames: Tensor, weights: dict[str, Tensor], rounding: Callable[[Tensor], Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """An LSTM layer step by step, whose state is rounded to 8 bits before each product with the recurrent weights.

    `layer` has the attributes of nn.LSTM; what is handed on is the state before rounding. `rounding` to whole numbers
    may be one that lets gradients through.
    """
    suffixes = ("_l0", "_l0_reverse") if layer.bidirectional else ("_l0",)
    frames = frames.transpose(0, 1) if layer.batch_first else frames  # (T, B, K)
    gates = []
    for suffix in suffixes:
        biases = [layer.get_parameter(f"bias_{kind}{suffix}") for kind in ("ih", "hh")] if layer.bias else []
        inputs = functional.linear(frames, weights[f"weight_ih{suffix}"], sum(biases) if biases else None)
        gates.append(inputs.flip(0) if suffix.endswith("reverse") else inputs)
    recurrent = torch.stack([weights[f"weight_hh{suffix}"].t() for suffix in suffixes])  # (D, H, 4H)
    hidden = cells = frames.new_zeros(len(suffixes), frames.shape[1], layer.hidden_size)
    steps = []
    for inputs in torch.stack(gates, dim=1):  # (D, B, 4H)
        rounded = rounding(hidden * STATE_LEVELS) / STATE_LEVELS
        entry, forget, new, exit_ = torch.baddbmm(inputs, rounded, recurrent).chunk(4, dim=2)
        cells = forget.sigmoid() * cells + entry.sigmoid() * new.tanh()
        hidden = exit_.sigmoid() * cells.tanh()
        steps.append(hidden)
    by_direction = torch.stack(steps, dim=1).unbind()  # (T, B, H) each
    outputs = torch.cat([by_direction[0], *(states.flip(0) for states in by_direction[1:])], dim=2)
    return (outputs.transpose(0, 1) if layer.batch_first else outputs), (hidden, cells)


class QuantConv1d(nn.Module):
    """A convolution with quantized weights; its activations stay in float32."""

    bias: Tensor | None

    def __init__(self, convolution: nn.Conv1d, mode: QuantMode) -> None:
        super().__init__()
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.weight = _weight(tuple(convolution.weight.shape), mode)
        _take_biases(self, convolution, ("bias",), mode)

    def forward(self, channels: Tensor) -> Tensor:
        """(B, C, T) to (B, channels, frames)."""

        def convolve(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return functional.conv1d(inputs, weight, bias, self.stride, self.padding, self.dilation, self.groups)

        if isinstance(self.weight, HalfWeight):
            return _in_half(convolve, channels, self.weight.values, self.bias)
        return convolve(channels, self.weight.dense(), self.bias)

    def kernel(self, device: torch.device, rows: int = 1) -> Kernel:
        """What computes it on a device."""
        if isinstance(self.weight, HalfWeight):
            return _half_kernel(self.weight.values.dtype, device)
        return Kernel(False, "weight-only: dequantized, then convolved in float32")


class QuantPosition(QuantConv1d):
    """WavLM's positional convolution, gain and direction folded into one weight."""

    def __init__(self, position: PositionalConvolution, mode: QuantMode) -> None:
        width, kernel = position.direction.shape[0], position.direction.shape[2]
        with torch.device("meta"):
            plain = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=position.groups)
        super().__init__(plain, mode)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (B, T, C) to what is added to them."""
        channels = super().forward(frames.transpose(1, 2))
        return functional.gelu(channels[..., : frames.shape[1]]).transpose(1, 2)

    def fold(self) -> None:
        """It is folded already."""


QuantModule = QuantLinear | QuantLSTM | QuantConv1d
_COVERED: tuple[tuple[type[nn.Module], str, Callable[[Any, QuantMode], QuantModule]], ...] = (
    (nn.Linear, "linear", QuantLinear),
    (nn.LSTM, "lstm", QuantLSTM),
    (nn.Conv1d, "conv", QuantConv1d),
    (PositionalConvolution, "conv", QuantPosition),
)


def kind_of(module: nn.Module) -> str | None:
    """Among `quantmodes.KINDS`; None for what has no quantized form, as subclasses, which may compute otherwise."""
    return next((kind for owner, kind, _ in _COVERED if type(module) is owner), None)


def obstacle(module: nn.Module) -> str | None:
    """Why a module of a known kind has no quantized form all the same; None where it has."""
    if isinstance(module, nn.LSTM) and (module.num_layers != 1 or module.proj_size):
        return f"an LSTM of {module.num_layers} layers, or with a projection: only single layers are quantized"
    if isinstance(module, nn.Conv1d) and module.padding_mode != "zeros":
        return f"its padding is {module.padding_mode}"
    if any(weight.ndim > 1 and weight.flatten(1).shape[1] == 1 for weight in module.parameters()):
        return "its rows have one weight, which the scale would be"
    return None


def install(network: nn.Module, quantization: Quantization, where: object = "quantization") -> nn.Module:
    """The network, with empty quantized modules in place of those named; to be filled from a file, or by quantizing.

    Raises InputError, naming `where`, for a path that is none of the network's or can't be quantized.
    """
    for path in quantization.modules:
        try:
            module = network.get_submodule(path)
        except AttributeError:
            raise InputError(f"{where}: {type(network).__name__} has no module {path!r} to be quantized") from None
        if not path or kind_of(module) is None or (why := obstacle(module)):
            kind = type(module).__name__
            raise InputError(
                f"{where}: {path!r} is a {kind}, which is not quantized{f': {why}' if path and kind_of(module) else ''}"
            )
        make = next(make for owner, _, make in _COVERED if type(module) is owner)
        parent, _, name = path.rpartition(".")
        with _device_of(module):
            replacement = make(module, quantization.mode)
        setattr(network.get_submodule(parent), name, replacement.train(module.training))
    network.quantization = quantization  # type: ignore[assignment]
    return network


def quantization_in(network: nn.Module) -> Quantization | None:
    """What was done to a network; None to one as it was trained."""
    found = getattr(network, "quantization", None)
    return found if isinstance(found, Quantization) else None


def quant_modules(network: nn.Module) -> dict[str, QuantModule]:
    """The quantized modules by path."""
    return {path: module for path, module in network.named_modules() if isinstance(module, QuantModule)}


def simulated(network: nn.Module, device: torch.device) -> list[str]:
    """The paths of quantized modules without a kernel of their own there: their time says nothing of speed."""
    return [path for path, module in quant_modules(network).items() if not module.kernel(device).real]


def kernels(mode: QuantMode, device: torch.device) -> dict[str, Kernel]:
    """What would compute each kind of module that a mode covers on a device, where its shape is no obstacle."""
    with torch.device("meta"):
        examples = (nn.Linear(64, 64), nn.LSTM(64, 64), nn.Conv1d(64, 64, 3))
        found = {kind: make(one, mode) for one in examples for owner, kind, make in _COVERED if type(one) is owner}
    return {kind: module.kernel(device) for kind, module in found.items() if kind in mode.covers}


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _weight(shape: tuple[int, ...], mode: QuantMode) -> Weight:
    return HalfWeight(shape, mode) if mode.half else IntWeight(shape, mode)


def _take_biases(module: nn.Module, source: nn.Module, names: tuple[str, ...], mode: QuantMode) -> None:
    for name in names:
        bias = getattr(source, name)
        number = _HALVES.get(mode.number, torch.float32)
        empty = None if bias is None else nn.Parameter(torch.zeros(bias.shape, dtype=number), requires_grad=False)
        module.register_parameter(name, empty)


def _inputs(mode: QuantMode) -> Inputs | None:
    return None if mode.activations == "float" else Inputs(static=mode.activations == "static")


def _in_half(
    compute: Callable[[Tensor, Tensor, Tensor | None], Tensor], inputs: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """`compute` in the weight's number type; where there is no kernel for that, in float32 on rounded numbers."""
    number = weight.dtype
    rounded = inputs.to(number)
    if not _half_kernel(number, inputs.device).real:
        rounded, weight, bias = rounded.float(), weight.float(), None if bias is None else bias.float()
    return compute(rounded, weight, bias).to(number).to(inputs.dtype)


def _half_kernel(number: torch.dtype, device: torch.device) -> Kernel:
    name = str(number).removeprefix("torch.")
    if device.type == "cuda":
        return Kernel(True, f"CUDA {name}")
    flag = "_is_mkldnn_bf16_supported" if number == torch.bfloat16 else "_is_mkldnn_fp16_supported"
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type == "cpu" and onednn and getattr(torch.ops.mkldnn, flag)():
        return Kernel(True, f"oneDNN {name}")
    return Kernel(False, f"no {name} arithmetic on this {device.type}: float32 on rounded numbers")


def _int8_kernel(device: torch.device, rows: int, inputs: int, outputs: int) -> Kernel:
    if device.type == "cpu":
        # Without these instructions, sums of two products may overflow.
        if getattr(torch.cpu, "_is_vnni_supported", bool)():
            return Kernel(True, "torch._int_mm (oneDNN int8), which torchao calls as well")
        return Kernel(False, "this CPU has no VNNI instructions")
    if device.type == "cuda":
        if rows > _CUBLAS_ROWS and inputs % _CUBLAS_MULTIPLE == 0 and outputs % _CUBLAS_MULTIPLE == 0:
            return Kernel(True, "torch._int_mm (cuBLAS int8), which torchao calls as well")
        return Kernel(False, f"CUDA's int8 product needs multiples of 8, not {inputs} × {outputs}, and over 16 rows")
    return Kernel(False, f"no int8 product on {device.type}")
