"""Small WavLMs for tests: as wide as a test needs, wired like Base+ or like Large."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from diarbench.nn.structures import Convolution, Structure, named_structure

SAMPLES = 16000 * 6 // 5  # 1.2 s, 59 frames


def small(kind: str, *, layers: int = 3, buckets: int = 32) -> Structure:
    """A structure like `base` or `large`, of width 32 with 4 heads."""
    published = named_structure({"base": "wavlm-base-plus", "large": "wavlm-large"}[kind])
    return replace(
        published,
        convolutions=tuple(Convolution(16, layer.kernel, layer.stride) for layer in published.convolutions),
        width=32,
        total_heads=4,
        buckets=buckets,
        max_distance=40,
        heads=((0, 1, 2, 3),) * layers,
        feed_forward=(48,) * layers,
    )


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in inference with all weights moved, so that no bias is zero and no scale is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
        for name, tensor in module.named_buffers():
            if name.endswith("running_var"):
                tensor.abs_()
    return module.eval()


def noise(batch: int = 2, samples: int = SAMPLES) -> torch.Tensor:
    """Seeded noise (batch, samples)."""
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(1))
