"""One embedding per window, from features that are computed once for the whole recording."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diarbench.pipelines.windows import Windows
from diarbench.types import Seconds


def embed_windows(
    encoder: Callable[[Tensor, Tensor], Tensor],
    features: Tensor,
    windows: Windows,
    *,
    frame: Seconds,
    batch: int = 64,
) -> NDArray[np.float32]:
    """Embeddings (windows, dimensions) by an encoder of (frames, windows, bands) and lengths (windows,).

    `features` (frames, bands) has one row per `frame` seconds. Windows are taken `batch` at a time, by their length,
    so that few frames are computed that no window needs.
    """
    count = len(features)
    firsts = np.clip(np.round(windows.starts / frame).astype(np.int64), 0, count - 1)
    lasts = np.clip(np.round(windows.ends / frame).astype(np.int64), firsts + 1, count)
    lengths = lasts - firsts
    order = np.argsort(lengths, kind="stable")
    parts = []
    for chosen in np.split(order, range(batch, len(order), batch)) if len(order) else []:
        first = torch.from_numpy(firsts[chosen]).to(features.device)
        length = torch.from_numpy(lengths[chosen]).to(features.device)
        steps = torch.arange(int(lengths[chosen].max()), device=features.device)
        rows = (first[None, :] + steps[:, None]).clamp_(max=count - 1)
        parts.append(encoder(features[rows], length).cpu().numpy())
    if not parts:
        return np.zeros((0, 0), dtype=np.float32)
    embeddings = np.concatenate(parts)
    embeddings[order] = embeddings.copy()
    return embeddings
