"""The frames of WeSpeaker's ResNets, as pyannote.audio's class computes them to the last bit, but sooner and leaner.

The first maps are the largest: of a window of 10 s, 32 channels, 80 bands, 998 frames, 10 MB each. Three things help,
and change no number: what is rectified is rectified in place; a map is let go of once the next one is there; and on the
CPU the first blocks are computed a stretch of frames at a time, whose maps fit into the processor's caches:

    frames      |------------------------------------------|
    stretches   |=========....|
                      |....=========....|                    ....  frames of its neighbours that a stretch sees
                                |....==========|
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pyannote.audio.models.embedding.wespeaker.resnet import BasicBlock, ResNet
from torch import Tensor

# Frames (of 10 ms) in a stretch at most; stretches are even, since very narrow maps are computed another way. Of 125,
# 250, 500 and all frames, 250 took the least time on one core with 1 MB of second-level cache: 0.84 of what
# pyannote.audio's class takes (0.94 in another session); 125 took 0.85, all at once 0.91.
_STRETCH = 250


def resnet_frames(resnet: ResNet, features: Tensor) -> Tensor:
    """What `resnet.forward_frames` gives, (windows, channels, bands, frames), for features (windows, frames, bands)."""
    layers = (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
    if not all(type(block) is BasicBlock for layer in layers for block in layer):
        frames: Tensor = resnet.forward_frames(features)
        return frames
    first, *later = layers
    maps = features.permute(0, 2, 1).unsqueeze(1)
    maps = _first_maps(resnet, first, maps) if maps.is_cpu else _beginning(resnet, first, maps)
    for layer in later:
        for block in layer:  # here, since whoever calls a function keeps what it gives to it
            maps = _through(block, maps)
    return maps


def _first_maps(resnet: ResNet, blocks: Sequence[BasicBlock], maps: Tensor) -> Tensor:
    """`_beginning` of maps (windows, 1, bands, frames), stretch by stretch."""
    frames = maps.shape[3]
    seen = 1 + 2 * len(blocks)  # frames on each side that convolutions over three of them reach
    whole: Tensor | None = None
    count = -(-frames // _STRETCH)
    edges = [frames * number // count for number in range(count + 1)]
    for start, stop in pairwise(edges):
        left = max(0, start - seen)
        part = _beginning(resnet, blocks, maps[..., left : min(stop + seen, frames)])
        if whole is None:
            whole = part.new_empty((*part.shape[:3], frames))
        whole[..., start:stop] = part[..., start - left : stop - left]
    assert whole is not None
    return whole


def _beginning(resnet: ResNet, blocks: Sequence[BasicBlock], maps: Tensor) -> Tensor:
    """The first convolution and the blocks of the first layer, none of which skips frames."""
    maps = resnet.bn1(resnet.conv1(maps)).relu_()
    for block in blocks:
        maps = _through(block, maps)
    return maps


def _through(block: BasicBlock, maps: Tensor) -> Tensor:
    """Two convolutions, and the way around them."""
    inner: Tensor = block.bn1(block.conv1(maps)).relu_()
    inner = block.bn2(block.conv2(inner))
    inner += block.shortcut(maps)
    return inner.relu_()
