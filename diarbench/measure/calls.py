"""Which networks a system really calls, with which shapes, and the multiply-accumulates (MACs) that this makes."""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from diarbench.measure.counts import count_macs, one_line
from diarbench.measure.growth import Growth
from diarbench.measure.held import is_quantized
from diarbench.measure.networks import Network
from diarbench.measure.shapes import Shape, made, shape_of_call
from diarbench.types import Seconds

if TYPE_CHECKING:
    from torch import nn

# Most systems call their networks with few different shapes. Where one doesn't, counting must not become the work.
_ALLOWANCE = 30.0  # s per process
_SHARE = 0.02  # and of the time that the counted calls took

# Looked for ahead of the first call: so many items in a batch, in so much time.
_BATCH = 64
_LEARNING = 1.0  # s, after which no further count begins


@dataclass(frozen=True, slots=True)
class Calls:
    """What was called while it was recorded."""

    counts: Mapping[str, Counter[Shape]]  # by stage: how often with which arguments
    problems: Mapping[str, str]  # stages whose calls can't all be seen, and why


class CallRecorder:
    """Watches the networks of a built system while `recording` lasts, for about 3 µs per call.

    A network that another one calls is part of that one, and is not counted again. Networks that are no torch modules,
    or TorchScript, can't be watched. Until a network has been called for the first time, its submodules are watched
    too: an adapter may call them by themselves, or methods other than `forward`, and then nothing true could be said.
    """

    def __init__(self, modules: Mapping[str, Any]) -> None:
        self._modules: dict[str, nn.Module] = {}
        self._problems: dict[str, str] = {}
        for stage, module in modules.items():
            if (problem := _unwatchable(module)) is None:
                self._modules[stage] = module
            else:
                self._problems[stage] = problem
        self._called: set[str] = set()
        self._inside = threading.local()

    @contextlib.contextmanager
    def recording(self) -> Iterator[Calls]:
        """The calls while the block lasts. Problems stay known: what can't be seen once is not counted later."""
        counts: dict[str, Counter[Shape]] = {stage: Counter() for stage in self._modules}
        handles = []
        for stage, module in self._modules.items():
            handles.append(module.register_forward_pre_hook(self._enter(counts[stage]), with_kwargs=True))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
            if stage not in self._called and not any(map(_is_compiled, module.modules())):
                inner = set(module.modules()).difference(self._modules.values())
                handles += [child.register_forward_pre_hook(self._stray(stage)) for child in inner]
        try:
            yield Calls(counts, self._problems)
        finally:
            for handle in handles:
                handle.remove()
            self._called |= {stage for stage, counted in counts.items() if counted}

    def _enter(self, counted: Counter[Shape]) -> Callable[..., None]:
        inside = self._inside

        def enter(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            depth = getattr(inside, "depth", 0)
            inside.depth = depth + 1
            if not depth:
                counted[shape_of_call(arguments, keywords)] += 1

        return enter

    def _leave(self, *_: Any) -> None:
        self._inside.depth -= 1

    def _stray(self, stage: str) -> Callable[..., None]:
        def stray(module: nn.Module, _: Any) -> None:
            if not getattr(self._inside, "depth", 0):
                kind = type(module).__name__
                self._problems[stage] = f"a {kind} inside it was called by itself: modules() must name what is called"

        return stray


@dataclass(frozen=True, slots=True)
class PipelineMacs:
    """MACs of a system on one recording."""

    by_stage: Mapping[str, int | None]  # None where they can't be told
    problem: str | None = None  # why not

    @property
    def total(self) -> int | None:
        """Of all stages; None where any can't be told: a part is never shown as the whole."""
        known = [macs for macs in self.by_stage.values() if macs is not None]
        return sum(known) if len(known) == len(self.by_stage) else None


class PipelineCounter:
    """MACs of recorded calls: each distinct shape is run once on the meta device, and remembered; where MACs are seen
    to grow evenly with the number of items, sizes in between are computed instead (`diarbench.measure.growth`).

    `networks` are those of the adapter, on the meta device; without them, what is not quantized is copied there.
    Counting stops, and says so, once it has taken half a minute and a fiftieth of the time that was counted.
    """

    def __init__(self, modules: Mapping[str, Any], networks: Mapping[str, Network] | None) -> None:
        self._networks: dict[str, nn.Module] = {}
        self._problems: dict[str, str] = {}
        self._told = {} if networks is None else {stage: networks[stage] for stage in modules}
        self._growth = {stage: Growth(partial(self._count, stage)) for stage in modules}
        self._until = 0.0
        self._allowance = _ALLOWANCE
        for stage, module in modules.items():
            if networks is not None:
                self._networks[stage] = networks[stage].module
            elif (problem := _unwatchable(module)) is not None:
                self._problems[stage] = problem
            elif is_quantized(module):
                self._problems[stage] = "it is quantized, and the adapter has no networks() to tell what it was before"
            else:
                try:
                    self._networks[stage] = _on_meta(module)
                except Exception as error:  # noqa: BLE001  a stranger's module may refuse to be copied in any way
                    self._problems[stage] = f"can't be copied: {one_line(error)}"

    def learn(self, lengths: Collection[Seconds] = ()) -> None:
        """Find out ahead of the calls how the MACs of the adapter's networks grow with batch and length, in a second
        or little more; and count those of whole recordings of these lengths where they don't grow evenly. It changes no
        number, only when it is counted."""
        import torch

        self._until = time.perf_counter() + _LEARNING
        for stage, network in self._told.items():
            seconds = network.window or 1.0
            shapes: list[Shape] = []
            for batch, length in ((1, seconds), (2, seconds), (1, 0.75 * seconds)):
                try:
                    with torch.device("meta"):
                        shapes.append(shape_of_call(network.inputs(batch, length), {}))
                except Exception:  # noqa: BLE001  some take one signal at a time, or one length
                    shapes.append(((), ()))
            one, two, shorter = shapes
            if self._growth[stage].learn(one, [(two, _BATCH), (shorter, 0)]):
                continue
            for length in sorted(set(lengths)):
                with contextlib.suppress(Exception), torch.device("meta"):
                    self._growth[stage].macs(shape_of_call(network.inputs(1, length), {}))

    def count(self, calls: Calls, wall: Seconds = 0.0) -> PipelineMacs:
        """MACs by stage of calls that took `wall` seconds. What can't be counted is None, and said."""
        self._allowance += _SHARE * wall
        problems = {**self._problems, **calls.problems}
        by_stage: dict[str, int | None] = dict.fromkeys([*self._networks, *problems])
        before = time.perf_counter()
        self._until = before + self._allowance
        for stage, counted in calls.counts.items():
            if stage in problems:
                continue
            try:
                by_stage[stage] = sum(times * self._growth[stage].macs(shape) for shape, times in counted.items())
            except Exception as error:  # noqa: BLE001  a network may fail in any way without values
                problems[stage] = one_line(error)
        self._allowance -= time.perf_counter() - before
        told = "; ".join(f"{stage}: {problem}" for stage, problem in problems.items())
        return PipelineMacs(by_stage, told or None)

    def _count(self, stage: str, shape: Shape) -> int:
        if time.perf_counter() > self._until:
            raise TimeoutError("it is called in too many different ways to count them all")
        network = self._networks[stage]
        (macs,) = count_macs(network, *made(shape, _floating(network) if self._told else None))
        return macs


def _unwatchable(module: Any) -> str | None:
    """Why the calls of a network can't be seen; None where they can."""
    torch = sys.modules.get("torch")  # where it is not loaded, nothing is a module of it
    if torch is None or not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        return f"calls of a {type(module).__name__} can't be seen, only those of a torch.nn.Module"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return "calls of a module that was compiled in place can't be seen"
    return None


def _is_compiled(module: Any) -> bool:
    """Whether torch.compile has been at it: hooks inside would become part of what is compiled."""
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy on the meta device; the weights are never copied."""
    import torch

    tensors = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    memo: dict[int, Any] = {id(tensor): tensor.detach().to("meta") for tensor in [*tensors, *module.buffers()]}
    for parameter in module.parameters():
        memo[id(parameter)] = torch.nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    return copy.deepcopy(module, memo)


def _floating(network: nn.Module) -> Any:
    """The number type of a network's floating parameters; None without any."""
    return next((one.dtype for one in network.parameters() if one.dtype.is_floating_point), None)
