"""Quantization of a trained network: which of its modules, by which codes and ranges, and what was really done.

torchao chooses scales and codes; the modules that compute with them are `diarbench.nn.quantized`'s.
"""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from diarbench.errors import InputError, MissingRequirementError
from diarbench.nn.packing import serialized
from diarbench.nn.quantized import (
    HalfWeight,
    Inputs,
    IntWeight,
    Kernel,
    install,
    kind_of,
    obstacle,
    quant_modules,
    quantization_in,
    scale_and_zero,
)
from diarbench.nn.quantmodes import Quantization, QuantMode
from diarbench.nn.wavlm import PositionalConvolution

Batch = Tensor | tuple[Any, ...]  # what a network is called with: one tensor, or all its arguments
Network = TypeVar("Network", bound=nn.Module)
NO_TORCHAO = "quantizing needs torchao: pip install 'diarbench[quantize]'"


@dataclass(frozen=True, slots=True)
class Covered:
    """A module that computes with quantized weights."""

    path: str
    kind: str  # linear, lstm or conv
    weights: int  # that are quantized; its biases are not counted
    group: int  # weights that share a scale
    activations: str  # float, dynamic or static
    kernel: Kernel  # on the device where it was quantized


@dataclass(frozen=True, slots=True)
class Skipped:
    """A module with weights that stay in float32."""

    path: str
    kind: str  # the name of its class where it is none of the three kinds
    weights: int
    why: str


@dataclass(frozen=True, slots=True)
class QuantReport:
    """What was done to a network, with nothing called quantized that is not."""

    mode: QuantMode
    method: str  # ptq or qat
    covered: tuple[Covered, ...]
    skipped: tuple[Skipped, ...]
    weights: int  # all parameters of the network in float32
    sqnr: float | None  # dB, of the outputs against those of the float32 network; None where no input was given
    calibration: int  # batches that set the ranges of activations
    bytes_float: int  # of a safetensors file in float32
    bytes_quantized: int  # of the file that is written and loaded
    device: str
    engine: str  # versions of what makes and computes it
    isa: tuple[str, ...]  # what of the processor matters to it

    @property
    def weights_covered(self) -> int:
        """Weights that are quantized."""
        return sum(module.weights for module in self.covered)

    @property
    def share(self) -> float:
        """Of all weights, those that are quantized."""
        return self.weights_covered / self.weights

    @property
    def kernel(self) -> str:
        """ "real" where all covered weights have a kernel of their own here, "simulated" where none has, or "mixed"."""
        kinds = {module.kernel.real for module in self.covered}
        return "mixed" if len(kinds) == 2 else "real" if True in kinds else "simulated"

    def as_table(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            **self.mode.as_table(),
            "method": self.method,
            "weights": self.weights,
            "weights_covered": self.weights_covered,
            "sqnr_db": self.sqnr,
            "calibration_batches": self.calibration,
            "bytes_float": self.bytes_float,
            "bytes_quantized": self.bytes_quantized,
            "kernel": self.kernel,
            "device": self.device,
            "engine": self.engine,
            "isa": list(self.isa),
            "covered": [
                {
                    "path": module.path,
                    "kind": module.kind,
                    "weights": module.weights,
                    "group": module.group,
                    "activations": module.activations,
                    "kernel": "real" if module.kernel.real else "simulated",
                    "by": module.kernel.what,
                }
                for module in self.covered
            ],
            "skipped": [
                {"path": module.path, "kind": module.kind, "weights": module.weights, "why": module.why}
                for module in self.skipped
            ],
        }

    def as_text(self) -> str:
        """The report in a few lines: what is alike is summed up."""
        sqnr = "outputs not compared" if self.sqnr is None else f"outputs {self.sqnr:.1f} dB above their error"
        speed = {
            "real": "real kernels: speed can be measured",
            "mixed": "simulated in part: speed not available here",
            "simulated": "simulated: speed not available here",
        }
        lines = [
            f"{self.mode.name} ({self.method}) on {self.device}: {self.weights_covered:,} of {self.weights:,} weights "
            f"({self.share:.1%}) in {len(self.covered)} modules; {sqnr}",
            f"file {self.bytes_quantized:,} bytes, {self.bytes_float:,} in float32; {speed[self.kernel]}",
        ]
        groups: dict[str, list[int]] = {}
        for module in self.covered:
            how = "real" if module.kernel.real else "simulated"
            scales = "" if self.mode.half else f"a scale per {'row' if module.group == 0 else module.group}, "
            what = f"  {module.kind}: {scales}activations {module.activations}, {how} ({module.kernel.what})"
            groups.setdefault(what, []).append(module.weights)
        for skipped in self.skipped:
            groups.setdefault(f"  not {skipped.kind}: {skipped.why}", []).append(skipped.weights)
        lines += [f"{what}: {len(weights)} with {sum(weights):,} weights" for what, weights in groups.items()]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Quantized(Generic[Network]):
    """A quantized network, and what was really done to it."""

    network: Network
    report: QuantReport


@dataclass(slots=True)
class Ranges:
    """The least and the largest of what each module was given."""

    low: dict[str, Tensor] = field(default_factory=dict)
    high: dict[str, Tensor] = field(default_factory=dict)
    batches: int = 0


def quantize(
    network: Network,
    mode: QuantMode,
    *,
    calibration: Iterable[Batch] | None = None,
    check: Sequence[Batch] | None = None,
    method: str = "ptq",
) -> Quantized[Network]:
    """A quantized copy of a network in float32; the network itself stays as it is.

    `calibration` sets the ranges of activations (least and largest over all batches), which static modes need; keep
    what is evaluated out of it. On `check`, or else the first batch of `calibration`, outputs are compared with those
    of the float network. A module that no calibration batch reaches stays in float32, and is reported.

    Raises MissingRequirementError without torchao; InputError where the mode covers nothing of the network or lacks
    calibration, where the network is quantized or prepared already, or where outputs are not finite or just the same.
    """
    if quantization_in(network) is not None:
        raise InputError("this network is quantized already")
    if getattr(network, "prepared", None) is not None and method == "ptq":
        raise InputError("this network was prepared for training: convert it instead")
    plain = copy.deepcopy(network).float().eval().requires_grad_(False)
    found, skipped = plan(plain, mode)
    ranges = Ranges()
    batches = None if calibration is None else iter(calibration)
    if mode.activations == "static":
        if batches is None:
            raise InputError(f"{mode.name} has static ranges: it needs batches to calibrate with")
        reached = [path for path, kind in found.items() if kind != "conv"]
        ranges, first = calibrate(plain, reached, batches)
        lost = [path for path in reached if path not in ranges.low]
        skipped += [_skip(plain, path, found.pop(path), "no calibration batch reaches it") for path in lost]
    else:
        first = next(batches, None) if batches is not None else None
    if not found:
        raise InputError(f"{mode.name} covers nothing of {type(network).__name__}: {_reasons(skipped)}")
    result = install(copy.deepcopy(plain), Quantization(mode, tuple(found), method))
    for path in found:
        _fill(result.get_submodule(path), plain.get_submodule(path), mode)
        if path in ranges.low:
            _set_range(result.get_submodule(path), ranges.low[path], ranges.high[path])
    inputs = list(check) if check is not None else [] if first is None else [first]
    report = _report(plain, result, mode, method, skipped, ranges.batches, inputs)
    return Quantized(result, report)  # type: ignore[arg-type]


def plan(network: nn.Module, mode: QuantMode) -> tuple[dict[str, str], list[Skipped]]:
    """The modules that a mode covers, kind by path, and all others with weights of their own, with the reason."""
    covered: dict[str, str] = {}
    skipped = []
    for path, module in network.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        kind = kind_of(module)
        pattern = next((pattern for pattern in mode.skip if fnmatch.fnmatchcase(path, pattern)), None)
        if kind is None:
            skipped.append(_skip(network, path, type(module).__name__, "no linear map, LSTM or convolution"))
        elif kind not in mode.covers:
            skipped.append(_skip(network, path, kind, f"covered are {', '.join(mode.covers)}"))
        elif pattern is not None:
            skipped.append(_skip(network, path, kind, f"named by skip {pattern!r}"))
        elif why := obstacle(module):
            skipped.append(_skip(network, path, kind, why))
        else:
            covered[path] = kind
    unused = [pattern for pattern in mode.skip if not any(pattern in each.why for each in skipped)]
    if unused:
        raise InputError(f"skip {unused[0]!r} names no module that would be covered")
    return covered, skipped


@torch.inference_mode()
def calibrate(network: nn.Module, paths: Iterable[str], batches: Iterable[Batch]) -> tuple[Ranges, Batch | None]:
    """The ranges of what these modules are given while the network runs on the batches, and the first of these.

    Raises InputError where there is none, or where an activation is not finite.
    """
    ranges, first, handles = Ranges(), None, []
    for path in paths:

        def look(_: nn.Module, arguments: tuple[Any, ...], path: str = path) -> None:
            low, high = arguments[0].aminmax()
            ranges.low[path] = torch.minimum(low, ranges.low.get(path, low))
            ranges.high[path] = torch.maximum(high, ranges.high.get(path, high))

        handles.append(network.get_submodule(path).register_forward_pre_hook(look))
    try:
        for batch in batches:
            first = batch if first is None else first
            ranges.batches += 1
            _call(network, batch)
    finally:
        for handle in handles:
            handle.remove()
    if first is None:
        raise InputError("there is no batch to calibrate with")
    for path, low in ranges.low.items():
        if not (low.isfinite() and ranges.high[path].isfinite()):
            raise InputError(f"{path}: what it is given in calibration is not finite")
    return ranges, first


def rounded_matrix(weight: Tensor, mode: QuantMode) -> tuple[Tensor, Tensor]:
    """Codes (rows, columns; int8) and scales (rows, groups) of a matrix, as torchao chooses them: symmetric.

    A scale is the largest magnitude of its group over half the number of steps. Raises MissingRequirementError without
    torchao.
    """
    try:
        from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine
    except ImportError as error:
        raise MissingRequirementError(NO_TORCHAO) from error
    low, high = -(2 ** (mode.bits - 1)), 2 ** (mode.bits - 1) - 1
    block = (1, mode.group_of(weight.shape[1]))
    scale, zero = choose_qparams_affine(
        weight,
        MappingType.SYMMETRIC,
        block,
        torch.int8,
        low,
        high,
        eps=torch.finfo(torch.float32).eps,
        scale_dtype=torch.float32,
        zero_point_dtype=torch.int8,
    )
    codes = quantize_affine(weight, block, scale, zero, torch.int8, low, high)
    return codes, scale.reshape(len(weight), -1)


def sqnr(expected: Tensor, found: Tensor) -> float:
    """The power of what is expected over that of the error, in dB; infinite where there is no error.

    >>> round(sqnr(torch.tensor([1.0, 1.0]), torch.tensor([1.5, 0.5])), 2)
    6.02
    """
    error = (expected.double() - found.double()).square().sum().item()
    power = expected.double().square().sum().item()
    return 10 * math.log10(power / error) if error and power else math.inf if not error else -math.inf


def _skip(network: nn.Module, path: str, kind: str, why: str) -> Skipped:
    weights = sum(parameter.numel() for parameter in network.get_submodule(path).parameters(recurse=False))
    return Skipped(path, kind, weights, why)


def _reasons(skipped: Sequence[Skipped]) -> str:
    reasons: Mapping[str, None] = dict.fromkeys(f"{each.kind}: {each.why}" for each in skipped)
    return "; ".join(list(reasons)[:3]) or "it has no weights"


@torch.no_grad()
def _fill(module: nn.Module, source: nn.Module, mode: QuantMode) -> None:
    """Weights and biases of a float module into its quantized form."""
    for name, child in module.named_children():
        if isinstance(child, IntWeight):
            codes, scale = rounded_matrix(_matrix(source, name).flatten(1), mode)
            child.codes.copy_(codes)
            child.scale.copy_(scale)
        elif isinstance(child, HalfWeight):
            child.values.copy_(_matrix(source, name))
    for name, parameter in module.named_parameters(recurse=False):
        parameter.copy_(source.get_parameter(name))


def _matrix(source: nn.Module, name: str) -> Tensor:
    if isinstance(source, PositionalConvolution):
        folded = copy.deepcopy(source)
        folded.fold()
        return folded.direction
    return source.get_parameter(name)


def _set_range(module: nn.Module, low: Tensor, high: Tensor) -> None:
    inputs = module.get_submodule("inputs")
    assert isinstance(inputs, Inputs)
    assert inputs.scale is not None
    assert inputs.zero is not None
    scale, zero = scale_and_zero(low, high)
    inputs.scale.copy_(scale)
    inputs.zero.copy_(zero)


def _report(
    plain: nn.Module,
    result: nn.Module,
    mode: QuantMode,
    method: str,
    skipped: Sequence[Skipped],
    calibration: int,
    inputs: Sequence[Batch],
) -> QuantReport:
    device = next(plain.parameters()).device
    covered = []
    for path, module in quant_modules(result).items():
        matrices = [child for child in module.children() if isinstance(child, IntWeight | HalfWeight)]
        weights = sum(matrix.dense().numel() for matrix in matrices)
        columns = max(matrix.dense().flatten(1).shape[1] for matrix in matrices)
        group = 0 if mode.half or mode.group_of(columns) == columns else mode.group
        activations = mode.activations if isinstance(getattr(module, "inputs", None), Inputs) else "float"
        if mode.half:
            activations = mode.number
        kind = kind_of(plain.get_submodule(path)) or ""
        covered.append(Covered(path, kind, weights, group, activations, module.kernel(device)))
    return QuantReport(
        mode=mode,
        method=method,
        covered=tuple(covered),
        skipped=tuple(skipped),
        weights=sum(parameter.numel() for parameter in plain.parameters()),
        sqnr=_compare(plain, result, inputs) if inputs else None,
        calibration=calibration,
        bytes_float=len(serialized(plain)),
        bytes_quantized=len(serialized(result)),
        device=str(device),
        engine=_engine(),
        isa=isa(device),
    )


@torch.inference_mode()
def _compare(plain: nn.Module, result: nn.Module, inputs: Sequence[Batch]) -> float:
    """SQNR in dB over the outputs of all batches. Raises InputError where it says that something is wrong."""
    pairs = [(_flat(_call(plain, batch)), _flat(_call(result, batch))) for batch in inputs]
    expected, found = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    if not found.isfinite().all():
        raise InputError("the quantized network's outputs are not all finite")
    if not math.isfinite(value := sqnr(expected, found)):
        raise InputError("the quantized network's outputs are just those of the float network, or the latter's are 0")
    return value


def _call(network: nn.Module, batch: Batch) -> Any:
    return network(*batch) if isinstance(batch, tuple) else network(batch)


def _flat(outputs: Any) -> Tensor:
    return torch.cat([tensor.float().flatten() for tensor in tree_leaves(outputs) if isinstance(tensor, Tensor)])


def _engine() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"torch {torch.__version__}, torchao {version('torchao')}"
    except PackageNotFoundError:
        return f"torch {torch.__version__}"


def isa(device: torch.device) -> tuple[str, ...]:
    """What of a device decides which kernels there are: a GPU's capability, or a CPU's instructions as torch sees."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return (torch.cuda.get_device_name(device), f"sm_{major}{minor}")
    names = ("avx2", "avx512", "vnni", "avx512_bf16", "amx_tile", "amx_fp16")
    return tuple(name for name in names if getattr(torch.cpu, f"_is_{name}_supported", bool)())
