"""Parameters and multiply-accumulates (MACs) of a system's networks, without their weights where they can be told.

MACs are half of what `torch.utils.flop_counter` counts on the meta device: matrix products, convolutions and
attention; norms, activations, lookups and additions are left out, as in the pruning papers. On tensors of a CPU the
same counter misses LSTMs, fused attention and everything quantized, without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diarbench.errors import AdapterError, MissingRequirementError
from diarbench.measure.held import Holding
from diarbench.measure.networks import Network
from diarbench.measure.recurrent import recurrence_as_products
from diarbench.types import Complexity, PartSize, Seconds, StageSize

if TYPE_CHECKING:
    from torch import nn


def count_system(
    modules: Mapping[str, Any] | None, networks: Mapping[str, Network] | None, weight_bytes: int | None
) -> Complexity | None:
    """The size of a system, as far as its adapter tells; None where there is nothing to count.

    `modules` are the networks as they run, `networks` the same on the meta device, unquantized and without weights.
    From `networks` come parameters, MACs and parts; from `modules`, what is held and what of it is not zero, and the
    parameters too where there are no `networks`. What two stages share counts once, in the first. Raises AdapterError
    where one of the two is not what it should be.
    """
    if modules is None and networks is None:
        return Complexity(None, None, {}, weight_bytes) if weight_bytes is not None else None
    holding = Holding()
    by_stage = {}
    for stage, module in (modules or {}).items():
        if not callable(getattr(module, "parameters", None)):
            raise AdapterError(f"modules() must map names to torch modules; {stage!r} is a {type(module).__name__}")
        by_stage[stage] = holding.add(module)
    nonzero, held = (holding.nonzero, holding.as_held()) if modules is not None else (None, {})
    if networks is None:
        return Complexity(sum(by_stage.values()), nonzero, by_stage, weight_bytes, held=held)
    if modules is not None and set(modules) != set(networks):
        raise AdapterError(
            f"modules() and networks() must have the same names; they have {sorted(modules)} and {sorted(networks)}"
        )
    stages: dict[str, StageSize] = {}
    encoders: dict[str, Any] = {}
    seen: set[int] = set()
    for stage, network in networks.items():
        stages[stage], encoder = _sizes(network, stage)
        encoders |= encoder
        by_stage[stage] = _parameters([network.module], seen)
    return Complexity(sum(by_stage.values()), nonzero, by_stage, weight_bytes, stages=stages, held=held, **encoders)


def build_networks(adapter: Any, options: Mapping[str, Any]) -> Mapping[str, Network] | None:
    """What the class method `networks` of an adapter gives for a card's options, on the meta device; None without one.

    Raises AdapterError where it fails or gives something else, MissingRequirementError without torch.
    """
    if not callable(getattr(adapter, "networks", None)):
        return None
    try:
        import torch
    except ImportError as error:
        raise MissingRequirementError("counting needs torch: pip install 'diarbench[systems]'") from error

    try:
        with torch.device("meta"):
            networks = adapter.networks(**options)
    except Exception as error:
        raise AdapterError(f"networks() failed with the card's [options]: {one_line(error)}") from error
    if not isinstance(networks, Mapping) or not all(isinstance(one, Network) for one in networks.values()):
        raise AdapterError(f"networks() must map names to diarbench.measure.Network; got {type(networks).__name__}")
    if len([one for one in networks.values() if one.encoder is not None]) > 1:
        raise AdapterError("networks(): only one network of a system has an encoder")
    for stage, network in networks.items():
        for path in (network.encoder or "", *(path for paths in network.parts.values() for path in paths)):
            try:
                network.module.get_submodule(path)
            except AttributeError as error:
                raise AdapterError(f"networks()[{stage!r}] has no submodule {path!r}") from error
    return networks


@dataclass(frozen=True, slots=True)
class Macs:
    """Multiply-accumulates of one call of a network."""

    total: int
    by_part: Mapping[str, int]
    encoder: int | None  # inside the submodule that is the encoder


def macs_of(network: Network, seconds: Seconds, stage: str = "") -> Macs:
    """MACs on so much audio, batch 1. Raises AdapterError where the network, `stage`, can't take its inputs."""
    import torch

    encoder = [] if network.encoder is None else [network.encoder]
    try:
        with torch.device("meta"):
            inputs = network.inputs(1, seconds)
        total, *inside = count_macs(network.module, inputs, watched=[*network.parts.values(), encoder])
    except Exception as error:
        raise AdapterError(
            f"networks()[{stage!r}] can't be counted on {seconds:g} s of audio: {one_line(error)}"
        ) from error
    by_part = dict(zip(network.parts, inside[:-1], strict=True))
    return Macs(total, by_part, None if network.encoder is None else inside[-1])


def count_macs(
    module: nn.Module,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    *,
    watched: Sequence[Sequence[str]] = (),
) -> tuple[int, ...]:
    """MACs of `module(*arguments, **keywords)` on the meta device, to which all three are moved: the weights are lost.

    `watched` are groups of paths of submodules. The first number is the total, the others are what runs inside each
    group, whatever it is nested in. Raises whatever the module raises: one whose course depends on values can't
    run without them (mostly NotImplementedError or RuntimeError).
    """
    import torch
    from torch.utils._pytree import tree_map_only
    from torch.utils.flop_counter import FlopCounterMode

    module.to("meta").eval().requires_grad_(False)  # views of parameters, returned by a submodule, would want gradients
    arguments, keywords = tree_map_only(
        torch.Tensor, lambda tensor: tensor.to("meta"), (tuple(arguments), dict(keywords or {}))
    )
    counter = FlopCounterMode(display=False)
    with contextlib.ExitStack() as around:
        for context in (torch.no_grad(), torch.device("meta"), recurrence_as_products(module), counter):
            around.enter_context(context)
        groups = [
            around.enter_context(_booked([module.get_submodule(path) for path in paths], counter.get_total_flops))
            for paths in watched
        ]
        module(*arguments, **keywords)
    return tuple(flops // 2 for flops in (counter.get_total_flops(), *(flops for [flops] in groups)))


@contextlib.contextmanager
def _booked(modules: Sequence[nn.Module], total: Callable[[], int]) -> Iterator[list[int]]:
    """How much `total` grows while any of the modules, or anything inside one, runs: in a list of one.

    What is inside counts by itself too, since nobody calls a ModuleList, and some call other methods than `forward`.
    """
    flops, depth, since = [0], 0, 0

    def enter(*_: Any) -> None:
        nonlocal depth, since
        since = since if depth else total()
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1
        flops[0] += 0 if depth else total() - since

    handles = []
    for one in {inner for module in modules for inner in module.modules()}:
        handles += [one.register_forward_pre_hook(enter), one.register_forward_hook(leave)]
    try:
        yield flops
    finally:
        for handle in handles:
            handle.remove()


def _sizes(network: Network, stage: str) -> tuple[StageSize, dict[str, Any]]:
    """The size of one network, and the fields of Complexity that tell of the encoder, if it holds that."""
    module, window = network.module, network.window
    second = macs_of(network, 1.0, stage)
    whole = macs_of(network, window, stage) if window is not None else None
    parts = {
        part: PartSize(_parameters([module.get_submodule(path) for path in paths]), second.by_part[part])
        for part, paths in network.parts.items()
    }
    size = StageSize(_parameters([module]), second.total, window, whole.total if whole else None, parts)
    if network.encoder is None:
        return size, {}
    return size, {
        "encoder_parameters": _parameters([module.get_submodule(network.encoder)]),
        "encoder_macs_1s": second.encoder,
        "encoder_macs_window": whole.encoder if whole else None,
        "encoder_window": window,
    }


def _parameters(modules: Sequence[nn.Module], seen: set[int] | None = None) -> int:
    """Parameters of some modules, each once; those in `seen` not at all."""
    seen = set() if seen is None else seen
    count = 0
    for parameter in (parameter for module in modules for parameter in module.parameters()):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            count += parameter.numel()
    return count


def one_line(error: Exception) -> str:
    """Kind and message of an error, cut to a line that can be read."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"[:300]
