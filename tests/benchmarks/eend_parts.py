"""Two parts of EEND-VC, each beside what it takes the place of: the dendrogram, and the frames of ResNet34.

    python tests/benchmarks/eend_parts.py linkage scipy|fastcluster EMBEDDINGS
    python tests/benchmarks/eend_parts.py frames class|ours WINDOWS

Prints one line of JSON: processor time (s), memory that it added at most (bytes), and what was found, so that two
processes can be compared.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
from eend import forget_peak, resident


def linkage(side: str, embeddings: int) -> Any:
    """A dendrogram of points around thirty centres in 256 dimensions, as unit vectors."""
    from diarbench.pipelines import eend_clustering

    eend_clustering.MOST_IN_PAIRS = 0 if side == "fastcluster" else embeddings
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 256))[rng.integers(30, size=embeddings)] + rng.normal(size=(embeddings, 256))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    eend_clustering.linkage(points[:50], method="centroid")  # loads what it needs
    return lambda: eend_clustering.linkage(points, method="centroid", metric="euclidean")[:, 2]


def frames(side: str, windows: int) -> Any:
    """ResNet34 on windows of 10 s, one after the other."""
    import torch
    from pyannote.audio.models.embedding.wespeaker.resnet import ResNet34

    from diarbench.pipelines.resnet import resnet_frames

    torch.manual_seed(0)
    resnet = ResNet34(feat_dim=80, embed_dim=256, two_emb_layer=False).eval()
    features = torch.randn(windows, 1, 998, 80)

    @torch.inference_mode()
    def run() -> Any:
        for window in features:
            last = resnet_frames(resnet, window) if side == "ours" else resnet.forward_frames(window)
        return last.numpy()

    with torch.inference_mode():
        resnet.forward_frames(features[0, :, :100])
    return run


def main() -> None:
    what, side, count = sys.argv[1:]
    run = {"linkage": linkage, "frames": frames}[what](side, int(count))
    forget_peak()
    before, start = resident("VmRSS"), time.process_time()
    found = run()
    seconds, peak = time.process_time() - start, resident("VmHWM") - before
    # Heights are the same but for rounding; frames to the last bit.
    digest = hashlib.sha256(np.ascontiguousarray(found if what == "frames" else found.round(7) + 0.0)).hexdigest()
    print(json.dumps({"side": side, "cpu_seconds": round(seconds, 3), "added_bytes": peak, "found": digest}))


if __name__ == "__main__":
    main()
