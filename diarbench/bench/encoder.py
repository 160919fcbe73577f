"""A system's encoder by itself, on batches of windows: what the pruning papers time."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from diarbench.errors import AdapterError
from diarbench.execute.child import wait_for_gpu
from diarbench.measure.networks import Network
from diarbench.types import Seconds


class NoEncoderError(AdapterError):
    """The adapter tells of no encoder, which is its right."""


class Encoder:
    """The network that the papers count, ready to be called; its weights are the system's own, or random."""

    def __init__(self, module: Any, network: Network, device: str) -> None:
        self._module, self._network, self._device = module, network, device

    @classmethod
    def of(cls, adapter_class: Any, adapter: Any, options: Mapping[str, Any], device: str) -> Encoder:
        """The encoder of an adapter that is built; of one that is not (None), the same with random weights.

        Raises NoEncoderError where the adapter tells of none, AdapterError where what it tells is wrong.
        """
        import torch

        if not callable(getattr(adapter_class, "networks", None)):
            raise NoEncoderError(
                f"{adapter_class.__name__} has no class method `networks`, so its encoder can't be timed by itself; "
                "docs/adding-a-system.md says how to add it"
            )
        where = "meta" if adapter is not None else device
        torch.manual_seed(0)
        with torch.device(where):
            networks = adapter_class.networks(**options)
        name = next((name for name, network in networks.items() if network.encoder is not None), None)
        if name is None:
            raise NoEncoderError(f"none of the networks of {adapter_class.__name__} says that it has an encoder")
        network = networks[name]
        module = network.module if adapter is None else _built(adapter, name)
        if network.encoder:
            module = module.get_submodule(network.encoder)
        return cls(module.eval(), network, device)

    def time(self, batch: int, window: Seconds, calls: int) -> list[Seconds]:
        """Wall times of so many calls on `batch` windows of so many seconds of noise."""
        walls = self._times(batch, window, calls)
        give_back_memory(self._device)
        return walls

    def _times(self, batch: int, window: Seconds, calls: int) -> list[Seconds]:
        import torch

        torch.manual_seed(0)
        with torch.device(self._device):
            made = self._network.inputs(batch, window)
        inputs = [one.to(self._device) if isinstance(one, torch.Tensor) else one for one in made]
        walls = []
        with torch.inference_mode():
            if self._device == "cuda":
                self._module(*inputs)  # takes the memory that the last turn gave back
            for _ in range(calls):
                wait_for_gpu(self._device)
                before = time.perf_counter()
                self._module(*inputs)
                wait_for_gpu(self._device)
                walls.append(time.perf_counter() - before)
        return walls

    def largest_batch(self, window: Seconds, most: int) -> int:
        """The largest power of two, up to `most`, that the GPU takes. Raises AdapterError if one window is too much."""
        found, batch = 0, 1
        while batch <= most and self._fits(batch, window):
            found, batch = batch, 2 * batch
        give_back_memory(self._device)  # of the one that failed
        if found == 0:
            raise AdapterError(f"one window of {window:g} s does not fit into the GPU's memory")
        return found

    def _fits(self, batch: int, window: Seconds) -> bool:
        import torch

        try:
            self.time(batch, window, 1)
        except torch.cuda.OutOfMemoryError:
            return False
        except RuntimeError:
            # Libraries fail in their own words, and kernels that count in 32 bits have limits of their own. But what
            # can't take one window is wrong otherwise.
            if batch == 1:
                raise
            return False
        return True


def _built(adapter: Any, name: str) -> Any:
    modules = adapter.modules() if callable(getattr(adapter, "modules", None)) else {}
    if name not in modules:
        raise AdapterError(
            f"networks() of {type(adapter).__name__} has {name!r}, but modules() doesn't, so its encoder can't be timed"
        )
    return modules[name]


def give_back_memory(device: str) -> None:
    """To the GPU, which other systems' processes share. What an error still holds stays: call it once that is gone."""
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        torch.cuda.empty_cache()
