"""Frames of ResNets are those of pyannote.audio's class, to the last bit."""

from __future__ import annotations

import pytest
import torch
from pyannote.audio.models.embedding.wespeaker.resnet import ResNet18, ResNet34, ResNet50

from diarbench.pipelines import resnet
from diarbench.pipelines.resnet import resnet_frames


def network(kind):
    torch.manual_seed(0)
    made = kind(feat_dim=80, embed_dim=256, two_emb_layer=False).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: no identity
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
            module.running_mean.normal_(0.0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return made


@pytest.mark.parametrize("kind", [ResNet34, ResNet18, ResNet50])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_frames_are_the_networks_own(kind, precision):
    ours = network(kind)
    features = torch.randn(2, 120, 80)
    before = features.clone()
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        assert torch.equal(resnet_frames(ours, features), ours.forward_frames(features.clone()))
    assert torch.equal(features, before)


@pytest.mark.parametrize("frames", [1, 9, 80, 81, 95, 161, 250])
@torch.inference_mode()
def test_stretches_have_no_seams(monkeypatch, frames):
    monkeypatch.setattr(resnet, "_STRETCH", 80)
    ours = network(ResNet18)
    features = torch.randn(1, frames, 80)
    assert torch.equal(resnet_frames(ours, features), ours.forward_frames(features.clone()))


@torch.inference_mode()
def test_windows_of_ten_seconds_are_computed_in_stretches():
    ours = network(ResNet18)
    widths = []
    ours.conv1.register_forward_hook(lambda _, inputs, output: widths.append(inputs[0].shape[3]))
    found = resnet_frames(ours, features := torch.randn(1, 998, 80))
    assert widths == [254, 260, 259, 255]  # five frames on each side, of a convolution and two blocks
    assert torch.equal(found, ours.forward_frames(features.clone()))
