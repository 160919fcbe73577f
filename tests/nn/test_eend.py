"""The EEND networks: the Conformer against torchaudio's, counts, frames, DiariZen's files, the Fbank front end."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))

from small_networks import SAMPLES, noise, shaken, small

from diarbench.errors import AudioError, InputError, MissingRequirementError
from diarbench.nn import eend as eend_module
from diarbench.nn import fbank as fbank_module
from diarbench.nn.conformer import Conformer, HeadShape
from diarbench.nn.eend import Eend, in_diarizen, load_diarizen
from diarbench.nn.fbank import Fbank, FbankEend
from diarbench.nn.powerset import powerset
from diarbench.nn.structures import named_structure
from diarbench.nn.wavlm import WavLM

SMALL = HeadShape(units=16, feed_forward=24, heads=2, blocks=2, kernel=5)


def numel(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


@torch.inference_mode()
def test_the_conformer_equals_torchaudios() -> None:
    torchaudio = pytest.importorskip("torchaudio", reason="torchaudio is compared with")
    ours = shaken(Conformer(SMALL))
    theirs = torchaudio.models.Conformer(16, 2, 24, 2, 5).eval()
    state = ours.state_dict()
    names = {"first.norm": "ffn1.sequential.0", "first.inner": "ffn1.sequential.1", "first.outer": "ffn1.sequential.4"}
    names |= {ours.replace("first", "second"): name.replace("ffn1", "ffn2") for ours, name in names.items()}
    names |= {"attention.norm": "self_attn_layer_norm", "attention.output": "self_attn.out_proj"}
    names |= {"convolution.norm": "conv_module.layer_norm", "norm": "final_layer_norm"}
    places = {"inner": 0, "depthwise": 2, "batch_norm": 3, "outer": 5}
    names |= {f"convolution.{name}": f"conv_module.sequential.{place}" for name, place in places.items()}
    copied = {}
    for name, tensor in state.items():
        _, block, *path, kind = name.split(".")
        if (inner := ".".join(path)) in names:
            copied[f"conformer_layers.{block}.{names[inner]}.{kind}"] = tensor
    for block in range(2):
        for kind in ("weight", "bias"):
            thirds = [state[f"blocks.{block}.attention.{name}.{kind}"] for name in ("query", "key", "value")]
            copied[f"conformer_layers.{block}.self_attn.in_proj_{kind}"] = torch.cat(thirds)
    theirs.load_state_dict(copied, strict=True)
    frames = torch.randn(3, 40, 16, generator=torch.Generator().manual_seed(2))
    expected, _ = theirs(frames, torch.full((3,), 40))
    torch.testing.assert_close(ours(frames), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "overlap", "head", "whole_millions"),
    [
        ("wavlm-base-plus", 2, 6_291_992, 100.67),
        ("wavlm-large", 2, 6_357_540, 321.81),
        ("wavlm-large", 4, 6_358_825, 321.81),
        ("wavlm_base_s80_md", 2, 6_291_992, 25.17),
        ("wavlm_large_s80_md", 2, 6_357_540, 69.45),
    ],
)
def test_parameters_are_exact(name: str, overlap: int, head: int, whole_millions: float) -> None:
    with torch.device("meta"):
        eend = Eend(named_structure(name), HeadShape(overlap=overlap))
    assert numel(eend.head.conformer) == 6_091_776
    assert len(eend.head.conformer.state_dict()) == 148
    assert numel(eend) - numel(eend.wavlm) == head
    assert numel(eend) / 1e6 == pytest.approx(whole_millions, abs=0.005)
    parts = [numel(eend.get_submodule(path)) for paths in eend_module.PARTS.values() for path in paths]
    assert sum(parts) == numel(eend)
    assert eend.get_submodule(eend_module.ENCODER) is eend.wavlm


@pytest.mark.parametrize(
    ("name", "giga_macs"),
    [  # by seconds of the window
        ("wavlm_base_s80_md", {1: 1.45, 8: 1.56, 12: 1.62, 16: 1.67}),
        ("wavlm_large_s80_md", {16: 4.56}),
        ("wavlm-base-plus", {8: 7.67}),
        ("wavlm-large", {12: 19.8}),
    ],
)
def test_macs_per_second_of_window(name: str, giga_macs: dict[int, float]) -> None:
    with torch.device("meta"):
        eend = Eend(named_structure(name)).eval()
        for seconds, expected in giga_macs.items():
            with FlopCounterMode(display=False, depth=3) as counter:
                scores = eend(torch.empty(1, 16000 * seconds))
            assert scores.shape == (1, {1: 49, 8: 399, 12: 599, 16: 799}[seconds], 11)
            # The closed formulas behind these figures leave out the gates of the position bias, 0.05 %.
            assert counter.get_total_flops() / 2e9 / seconds == pytest.approx(expected, rel=0.004)
            by_path = {path: sum(count.values()) for path, count in counter.get_flop_counts().items()}
            parts = ("Eend.wavlm.extractor", "Eend.wavlm.encoder", "Eend.head")
            assert sum(by_path[path] for path in parts) == counter.get_total_flops()


def test_frames_are_where_the_networks_say() -> None:
    eend, fbank = Eend(small("base"), SMALL).eval(), FbankEend(SMALL).eval()
    assert (eend.receptive_field, eend.step) == (400, 320)
    assert (fbank.receptive_field, fbank.step) == (400, 160)
    for network in (eend, fbank):
        for samples in (400, 719, 720, SAMPLES):
            assert network(noise(1, samples)).shape == (1, network.frames(samples), 11)
        assert network.frames(399) == 0
        with pytest.raises(AudioError, match="at least 400 samples"):
            network(noise(1, 399))
    assert [eend.frames(16000 * seconds) for seconds in (8, 12, 16)] == [399, 599, 799]
    assert fbank.frames(16000 * 8) == 798


@torch.inference_mode()
def test_scores_are_log_probabilities_of_the_weighted_layers() -> None:
    eend = shaken(Eend(small("large"), SMALL))
    scores = eend(noise())
    torch.testing.assert_close(scores.exp().sum(2), torch.ones(scores.shape[:2]))
    with torch.no_grad():
        eend.layer_weights.weight.copy_(torch.tensor([[0.0, 0.0, -2.0, 0.0]]))
    third = list(eend.wavlm.states(noise()))[2]
    torch.testing.assert_close(eend(noise()), eend.head(-2 * third))


@pytest.mark.parametrize("kind", ["base", "large"])
@torch.inference_mode()
def test_diarizens_files_load_strictly(kind: str) -> None:
    structure = small(kind)
    eend = shaken(Eend(structure, SMALL))
    state = in_diarizen(eend)
    again = load_diarizen(structure, state, "some.bin", SMALL)
    torch.testing.assert_close(again(noise()), eend(noise()))
    assert not any(weight.requires_grad for weight in again.parameters())
    assert not again.training

    some = "conformer.conformer_layer.1.conv.bn_norm.running_var"
    without = {name: tensor for name, tensor in state.items() if name != some}
    for problem, broken in {
        f"missing {some}": without,
        "unexpected conformer.pos_emb.pe_k.weight": {**state, "conformer.pos_emb.pe_k.weight": torch.ones(1)},
        r"classifier.weight is \(11, 16\) instead of \(16, 16\)": state,
    }.items():
        shape = replace(SMALL, overlap=4) if "classifier" in problem else SMALL
        with pytest.raises(MissingRequirementError, match=f"some.bin: not the weights of Eend: .*{problem}"):
            load_diarizen(structure, broken, "some.bin", shape)


def test_the_names_of_diarizens_files() -> None:
    with torch.device("meta"):
        state = in_diarizen(Eend(named_structure("wavlm_large_s80_md")))
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert len([name for name in shapes if name.startswith("wavlm_model.")]) == 444
    assert len([name for name in shapes if name.startswith("conformer.conformer_layer.")]) == 148
    assert len(shapes) == 444 + 148 + 7
    expected = {
        "wavlm_model.feature_extractor.dummy_weight": (211,),
        "wavlm_model.feature_extractor.conv_layers.6.conv.weight": (211, 368, 2),
        "wavlm_model.feature_extractor.conv_layers.6.layer_norm.bias": (211,),
        "wavlm_model.encoder.feature_projection.projection.weight": (1024, 211),
        "wavlm_model.encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0": (1, 1, 128),
        "wavlm_model.encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1": (1024, 64, 128),
        "wavlm_model.encoder.transformer.layers.0.attention.rel_attn_embed.weight": (320, 16),
        "wavlm_model.encoder.transformer.layers.1.attention.q_proj.weight": (192, 1024),
        "wavlm_model.encoder.transformer.layers.1.attention.out_proj.weight": (1024, 192),
        "wavlm_model.encoder.transformer.layers.1.attention.gru_rel_pos_const": (1, 16, 1, 1),
        "wavlm_model.encoder.transformer.layers.1.feed_forward.output_dense.weight": (1024, 925),
        "weight_sum.weight": (1, 25),
        "proj.weight": (256, 1024),
        "lnorm.bias": (256,),
        "conformer.conformer_layer.3.ffn1.w_1.weight": (1024, 256),
        "conformer.conformer_layer.3.ffn2.ln_norm.weight": (256,),
        "conformer.conformer_layer.3.mha.ln_norm.bias": (256,),
        "conformer.conformer_layer.3.mha.mha.linearO.weight": (256, 256),
        "conformer.conformer_layer.3.conv.pointwise_conv1.weight": (512, 256, 1),
        "conformer.conformer_layer.3.conv.depthwise_conv.weight": (256, 1, 31),
        "conformer.conformer_layer.3.conv.bn_norm.num_batches_tracked": (),
        "conformer.conformer_layer.3.conv.pointwise_conv2.bias": (256,),
        "conformer.conformer_layer.3.ln_norm.weight": (256,),
        "classifier.weight": (11, 256),
    }
    assert {name: shapes.get(name) for name in expected} == expected


def test_classes_are_pyannotes() -> None:
    pytest.importorskip("pyannote.audio", reason="pyannote.audio is compared with")
    from pyannote.audio.utils.powerset import Powerset

    for speakers, overlap in ((3, 2), (4, 2), (4, 4), (1, 1)):
        theirs = [tuple(row.nonzero()[:, 0].tolist()) for row in Powerset(speakers, overlap).mapping]
        assert list(powerset(speakers, overlap)) == theirs


def test_shapes_that_cant_be() -> None:
    for wrong in ({"units": 250}, {"kernel": 30}, {"overlap": 5}, {"overlap": 0}, {"blocks": 0}):
        with pytest.raises(InputError):
            HeadShape(**wrong)


@torch.inference_mode()
def test_fbank_equals_torchaudios_mel_spectrogram() -> None:
    torchaudio = pytest.importorskip("torchaudio", reason="torchaudio is compared with")
    mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=80, center=False)
    expected = torch.log(mel(noise()) + 1e-6).transpose(1, 2)
    torch.testing.assert_close(Fbank()(noise()), expected - expected.mean(dim=1, keepdim=True), rtol=1e-4, atol=1e-4)
    assert Fbank()(noise().bfloat16()).dtype == torch.bfloat16


def test_the_fbank_network_is_counted_without_weights() -> None:
    with torch.device("meta"):
        network = FbankEend().eval()
        with FlopCounterMode(display=False, depth=3) as counter:
            network(torch.empty(1, 16000))
    assert numel(network) == 6_091_776 + 80 * 256 + 256 + 512 + 2827 == 6_115_851
    mels = 2 * 98 * 201 * 80
    assert counter.get_flop_counts()["FbankEend.fbank"] == {torch.ops.aten.mm: mels}
    parts = [numel(network.get_submodule(path)) for paths in fbank_module.PARTS.values() for path in paths]
    assert sum(parts) == numel(network)
    built = FbankEend(SMALL).eval()
    assert built(noise()).isfinite().all()


def test_gradients_reach_the_whole_network() -> None:
    eend = Eend(small("base"), SMALL, dropout=0.1).train()
    eend(noise()).square().mean().backward()
    without = [name for name, weight in eend.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []
    assert math.isfinite(float(eend.layer_weights.weight.grad.abs().sum()))
    assert isinstance(eend.wavlm, WavLM)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.inference_mode()
def test_scores_on_a_gpu_are_those_on_the_cpu() -> None:
    structure = replace(small("base"), heads=((1, 3), (), (0, 1, 2, 3)))
    eend = load_diarizen(structure, in_diarizen(shaken(Eend(structure, SMALL))), "some.bin", SMALL)
    expected = eend(noise())
    found = eend.cuda()(noise().cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-2)  # convolutions may run in TF32
    halved = eend.bfloat16()(noise().cuda().bfloat16())
    assert halved.isfinite().all()
