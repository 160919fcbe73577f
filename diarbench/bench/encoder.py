"""A system's encoder by itself, on batches of windows: what the pruning papers time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from diarbench.errors import AdapterError
from diarbench.execute.child import wait_for_gpu
from diarbench.measure.networks import Network
from diarbench.types import Seconds


class Encoder:
    """The network that the papers count, ready to be called; its weights are the system's own, or random."""

    def __init__(self, module: Any, network: Network, device: str) -> None:
        self._module, self._network, self._device = module, network, device

    @classmethod
    def of(cls, adapter_class: Any, adapter: Any, options: Mapping[str, Any], device: str) -> Encoder:
        """The encoder of an adapter that is built; of one that is not (None), the same with random weights.

        Raises AdapterError where the adapter does not tell of its networks, or has no encoder among them.
        """
        import torch

        if not callable(getattr(adapter_class, "networks", None)):
            raise AdapterError(
                f"{adapter_class.__name__} has no class method `networks`, so its encoder can't be timed by itself; "
                "docs/measuring.md says how to add it"
            )
        where = "meta" if adapter is not None else device
        torch.manual_seed(0)
        with torch.device(where):
            networks = adapter_class.networks(**options)
        name = next((name for name, network in networks.items() if network.encoder is not None), None)
        if name is None:
            raise AdapterError(f"none of the networks of {adapter_class.__name__} says that it has an encoder")
        network = networks[name]
        module = adapter.modules()[name] if adapter is not None else network.module
        if network.encoder:
            module = module.get_submodule(network.encoder)
        return cls(module.eval(), network, device)

    def time(self, batch: int, window: Seconds, calls: int) -> list[Seconds]:
        """Wall times of so many calls on `batch` windows of so many seconds of noise."""
        import torch

        torch.manual_seed(0)
        with torch.device(self._device):
            inputs = self._network.inputs(batch, window)
        walls = []
        with torch.inference_mode():
            for _ in range(calls):
                wait_for_gpu(self._device)
                before = time.perf_counter()
                self._module(*inputs)
                wait_for_gpu(self._device)
                walls.append(time.perf_counter() - before)
        if self._device == "cuda":
            del inputs
            torch.cuda.empty_cache()  # other systems' processes share the card
        return walls

    def largest_batch(self, window: Seconds, most: int) -> int:
        """The largest power of two, up to `most`, that fits into the GPU's memory. Raises AdapterError if none does."""
        import torch

        found, batch = 0, 1
        while batch <= most:
            try:
                self.time(batch, window, 1)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            found, batch = batch, 2 * batch
        if found == 0:
            raise AdapterError(f"one window of {window:g} s does not fit into the GPU's memory")
        return found
