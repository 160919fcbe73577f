"""WavLM against transformers and torchaudio, against itself with units zeroed, and against exact counts."""

from __future__ import annotations

import copy
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
from diarbench.nn.layouts import LAYOUTS, in_layout, load_wavlm
from diarbench.nn.structures import Convolution, Structure, named_structure, structure_names
from diarbench.nn.wavlm import WavLM

KINDS = ("base", "large")


def pruned(structure: Structure) -> Structure:
    """Heads and units gone in every way there is: some, all of a layer's attention, all of its feed-forward."""
    return replace(structure, heads=((1, 3), (), (0,), (2, 3)), feed_forward=(5, 48, 0, 48))


def transformers_model(structure: Structure) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is compared with")
    large = structure.pre_norm
    config = transformers.WavLMConfig(
        hidden_size=structure.width,
        num_hidden_layers=structure.layers,
        num_attention_heads=structure.total_heads,
        intermediate_size=structure.feed_forward[0],
        conv_dim=[layer.channels for layer in structure.convolutions],
        conv_bias=False,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
        num_buckets=structure.buckets,
        max_bucket_distance=structure.max_distance,
        attn_implementation="eager",
    )
    return shaken(transformers.WavLMModel(config))


def torchaudio_model(structure: Structure) -> Any:
    torchaudio = pytest.importorskip("torchaudio", reason="torchaudio is compared with")
    model = torchaudio.models.wavlm_model(
        extractor_mode=structure.extractor_norm,
        extractor_conv_layer_config=[tuple(layer) for layer in structure.convolutions],
        extractor_conv_bias=False,
        encoder_embed_dim=structure.width,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=structure.position_kernel,
        encoder_pos_conv_groups=structure.position_groups,
        encoder_num_layers=structure.layers,
        encoder_num_heads=structure.total_heads,
        encoder_num_buckets=structure.buckets,
        encoder_max_distance=structure.max_distance,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=structure.feed_forward[0],
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=structure.pre_norm,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    return shaken(model)


@torch.inference_mode()
def states_by_hook(layers: Any, run: Any) -> list[Any]:
    """The input of the first of these layers and what each of them returns.

    transformers' own tuple of hidden states holds the last one normed in some releases and raw in others.
    """
    found: list[Any] = []
    hooks = [layers[0].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))]
    hooks += [
        layer.register_forward_hook(
            lambda _, __, output: found.append(output[0] if isinstance(output, tuple) else output)
        )
        for layer in layers
    ]
    run()
    for hook in hooks:
        hook.remove()
    return found


def assert_same(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_unpruned_equals_transformers_in_every_hidden_state(kind: str) -> None:
    structure = small(kind)
    theirs = transformers_model(structure)
    ours = load_wavlm(structure, theirs.state_dict(), "theirs", layout="hugging-face")
    samples = noise()
    inputs = torch.nn.functional.layer_norm(samples, (SAMPLES,)) if kind == "large" else samples
    assert_same(ours.states(samples), states_by_hook(theirs.encoder.layers, lambda: theirs(inputs)))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_unpruned_equals_torchaudio(kind: str) -> None:
    structure = small(kind)
    theirs = torchaudio_model(structure)
    ours = load_wavlm(structure, theirs.state_dict(), "theirs", layout="torchaudio")
    samples = noise()
    inputs = torch.nn.functional.layer_norm(samples, (SAMPLES,)) if kind == "large" else samples
    layers = theirs.encoder.transformer.layers
    assert_same(ours.states(samples), states_by_hook(layers, lambda: theirs.extract_features(inputs)))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_pruned_heads_and_units_equal_zeroed_ones(kind: str) -> None:
    whole = small(kind, layers=4)
    structure = pruned(whole)
    full, kept = shaken(WavLM(whole)), WavLM(structure)
    state = full.state_dict()
    for index, (heads, units) in enumerate(zip(structure.heads, structure.feed_forward, strict=True)):
        layer = f"encoder.layers.{index}."
        rows = [8 * head + unit for head in heads for unit in range(8)]
        silent = [row for row in range(32) if row not in rows]
        # The whole model: what leaves a removed head or unit counts as nothing.
        state[f"{layer}attention.output.weight"][:, silent] = 0
        state[f"{layer}feed_forward.outer.weight"][:, units:] = 0
        if not heads:
            state[f"{layer}attention.output.bias"].zero_()  # goes with the module
        if not units:
            state[f"{layer}feed_forward.outer.bias"].zero_()
    full.load_state_dict(state)
    cut = {}
    for name, tensor in kept.state_dict().items():
        source = state[name]
        if source.shape != tensor.shape:
            index = int(name.split(".")[2])
            rows = [8 * head + unit for head in structure.heads[index] for unit in range(8)]
            picked = rows if ".attention." in name else list(range(structure.feed_forward[index]))
            axis = 1 if name.endswith(("output.weight", "outer.weight")) else 0
            source = source.index_select(axis, torch.tensor(picked))
        cut[name] = source
    kept.load_state_dict(cut)
    assert_same(kept.eval().states(noise()), full.states(noise()), 2e-6)


@torch.inference_mode()
def test_pruned_channels_do_not_equal_zeroed_ones() -> None:
    # The layer norm of the projection takes its mean over the channels: fewer of them are another mean.
    whole = small("base")
    last = Convolution(15, *whole.convolutions[-1][1:])
    full, kept = shaken(WavLM(whole)), WavLM(replace(whole, convolutions=(*whole.convolutions[:-1], last)))
    state = full.state_dict()
    state["extractor.layers.6.conv.weight"][-1] = 0
    full.load_state_dict(state)
    kept.load_state_dict(
        {name: state[name][tuple(slice(size) for size in tensor.shape)] for name, tensor in kept.state_dict().items()}
    )
    assert (kept.eval()(noise()) - full(noise())).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_weighted_sum_of_layers_needs_no_stack(kind: str) -> None:
    wavlm = shaken(WavLM(pruned(small(kind, layers=4))))
    weights = torch.tensor([0.5, -1.0, 2.0, 0.0, 0.3])
    stacked = torch.stack(list(wavlm.states(noise())))
    torch.testing.assert_close(wavlm(noise(), weights), torch.einsum("l,lbtd->btd", weights, stacked))
    torch.testing.assert_close(wavlm(noise()), stacked[-1])


def test_gradients_reach_every_weight_through_the_weighted_sum() -> None:
    wavlm = WavLM(pruned(small("base", layers=4)), dropout=0.1).train()
    weights = torch.ones(5, requires_grad=True)
    wavlm(noise(), weights).square().mean().backward()
    assert weights.grad is not None
    assert weights.grad.abs().min() > 0
    without = [name for name, weight in wavlm.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []


@torch.inference_mode()
def test_folding_changes_neither_output_nor_state_nor_count() -> None:
    wavlm = shaken(WavLM(small("base")))
    before, state = wavlm(noise()), copy.deepcopy(wavlm.state_dict())
    folded = copy.deepcopy(wavlm).fold()
    assert folded.encoder.position.folded
    torch.testing.assert_close(folded(noise()), before)
    torch.testing.assert_close(folded.fold()(noise()), before)
    assert {name: tensor.shape for name, tensor in folded.state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    wavlm.load_state_dict(folded.state_dict())
    torch.testing.assert_close(wavlm(noise()), before)
    folded.load_state_dict(state)  # gain and direction again, so no longer folded
    torch.testing.assert_close(folded(noise()), before)
    assert not folded.fold().train().encoder.position.folded


@torch.inference_mode()
def test_the_scale_multiplies_the_extractors_channels() -> None:
    structure = small("base")
    plain, scaled = shaken(WavLM(structure)), WavLM(replace(structure, output_scale=True)).eval()
    scaled.load_state_dict({**plain.state_dict(), "extractor.scale": torch.arange(16.0)})
    torch.testing.assert_close(scaled.extractor(noise()), plain.extractor(noise()) * torch.arange(16.0))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_weights_survive_every_layout(layout: str, kind: str) -> None:
    structure = small(kind)
    wavlm = shaken(WavLM(structure))
    written = in_layout(wavlm, layout=layout)
    before = copy.deepcopy(written)
    again = load_wavlm(structure, written, "file", layout=layout)
    torch.testing.assert_close(again(noise()), wavlm(noise()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in written.items())  # not even by folding
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in written.items()
    }
    assert old.keys() != written.keys()
    torch.testing.assert_close(load_wavlm(structure, old, "file", layout=layout)(noise()), wavlm(noise()))


def test_others_load_what_we_write() -> None:
    structure = small("large")
    state = WavLM(structure).state_dict()
    wavlm = WavLM(structure)
    theirs = transformers_model(structure)
    missing = theirs.load_state_dict(in_layout(wavlm, layout="hugging-face"), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["masked_spec_embed"], [])
    torchaudio_model(structure).load_state_dict(in_layout(wavlm, layout="torchaudio"), strict=True)
    assert len(in_layout(wavlm, layout="diarizen")) == len(state) + 1


@pytest.mark.parametrize(
    ("name", "tensors"),
    [("wavlm_base", 248), ("wavlm_large", 488), ("wavlm_base_s80_md", 226), ("wavlm_large_s80_md", 444)],
)
def test_diarizens_files_hold_that_many_tensors(name: str, tensors: int) -> None:
    with torch.device("meta"):
        state = in_layout(WavLM(named_structure(name)), layout="diarizen")
    assert len(state) == tensors
    assert state["encoder.transformer.layers.0.attention.rel_attn_embed.weight"].shape[0] == 320


@pytest.mark.parametrize("layout", LAYOUTS)
def test_misfitting_files_are_one_clear_line(layout: str) -> None:
    structure = small("base")
    state = in_layout(WavLM(structure), layout=layout)
    some = next(name for name in state if name.endswith("final_layer_norm.bias"))
    cases = {
        f"missing {some}": {name: tensor for name, tensor in state.items() if name != some},
        "unexpected optimizer.step": {**state, "optimizer.step": torch.ones(1)},
        f"of another shape {some} is (7,) instead of (32,)": {**state, some: torch.ones(7)},
        "and 57 more": {},
    }
    for problem, broken in cases.items():
        with pytest.raises(MissingRequirementError) as error:
            load_wavlm(structure, broken, "some.bin", layout=layout)
        assert str(error.value).startswith("some.bin: not the weights of WavLM: ")
        assert "\n" not in str(error.value)
        assert problem in str(error.value) or not broken


def test_another_structures_weights_are_refused() -> None:
    whole = small("base", layers=4)
    state = in_layout(WavLM(whole), layout="diarizen")
    with pytest.raises(MissingRequirementError, match=r"q_proj.weight is \(32, 32\) instead of \(16, 32\)"):
        load_wavlm(replace(pruned(whole), output_scale=True), state, "some.bin", layout="diarizen")
    state["feature_extractor.dummy_weight"] = torch.full((16,), 0.5)
    with pytest.raises(MissingRequirementError, match="is not 1 everywhere"):
        load_wavlm(whole, state, "some.bin", layout="diarizen")
    with pytest.raises(InputError, match="fairseq is no layout of weights: hugging-face, torchaudio, diarizen"):
        load_wavlm(whole, state, "some.bin", layout="fairseq")
    headless = replace(whole, heads=((), *whole.heads[1:]))
    with pytest.raises(MissingRequirementError, match="the first layer has no attention"):
        load_wavlm(headless, state, "some.bin", layout="torchaudio")


def test_a_network_without_any_attention_or_without_the_first_runs() -> None:
    for heads in (((),) * 3, ((), (0, 2), ())):
        wavlm = WavLM(replace(small("base"), heads=heads)).eval()
        assert wavlm(noise()).isfinite().all()


def test_too_little_audio_is_an_error() -> None:
    wavlm = WavLM(small("base"))
    assert wavlm(torch.zeros(1, 400)).shape == (1, 1, 32)
    with pytest.raises(AudioError, match="at least 400 samples"):
        wavlm(torch.zeros(1, 399))
    with pytest.raises(AudioError, match=r"not shape \(1, 1, 800\)"):
        wavlm(torch.zeros(1, 1, 800))


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@torch.inference_mode()
def test_half_precision_and_quantized_maps_stay_near() -> None:
    wavlm = shaken(WavLM(pruned(small("base", layers=4))))
    expected = wavlm(noise())
    halved = copy.deepcopy(wavlm).bfloat16()(noise().bfloat16()).float()
    with torch.autocast("cpu", torch.bfloat16):
        automatic = wavlm(noise()).float()
    quantization = pytest.importorskip("torch.ao.quantization", reason="this torch has no eager quantization any more")
    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("no engine for quantized linear maps on this machine")
    torch.backends.quantized.engine = "x86"
    linears = [module for module in wavlm.modules() if isinstance(module, torch.nn.Linear)]
    quantized = quantization.quantize_dynamic(copy.deepcopy(wavlm), {torch.nn.Linear}, dtype=torch.qint8)
    swapped = [module for module in quantized.modules() if isinstance(module, torch.ao.nn.quantized.dynamic.Linear)]
    assert len(swapped) == len(linears) == 1 + 3 * 5 + 3 * 2
    for other, least in ((halved, 20), (automatic, 20), (quantized(noise()), 15)):
        ratio = 10 * torch.log10(expected.square().sum() / (other - expected).square().sum())
        assert ratio > least  # dB


# Facts of the published models; the closed formulas are the pruning paper's equations 7 to 9 with the convolutions,
# the projection, the positional convolution, and the gate's linear map (which the paper leaves out).
COUNTS = {  # parameters, MACs on 1 s, of these in the extractor
    "wavlm-base-plus": (94_381_168, 6_914_987_008, 2_450_123_776),
    "wavlm-large": (315_452_096, 17_820_396_544, 2_450_123_776),
    "wavlm_base_s80_md": (18_881_683, 1_134_905_615, 227_414_159),
    "wavlm_large_s80_md": (63_095_530, 3_683_441_946, 618_268_698),
}
LEFT_OUT = {"wavlm-base-plus": 6_911_374_336, "wavlm-large": 17_810_762_752}
LEFT_OUT |= {"wavlm_base_s80_md": 1_134_228_239, "wavlm_large_s80_md": 3_681_184_026}


def macs_by_formula(structure: Structure, samples: int) -> tuple[int, int, int]:
    """MACs of the extractor, of the rest without gates, and of the gates."""
    extractor, inputs, frames = 0, 1, samples
    for channels, kernel, stride in structure.convolutions:
        frames = (frames - kernel) // stride + 1
        extractor += frames * kernel * inputs * channels
        inputs = channels
    width, size = structure.width, structure.head_size
    rest = frames * inputs * width
    rest += (frames + 1) * structure.position_kernel * width**2 // structure.position_groups
    for heads, units in zip(structure.heads, structure.feed_forward, strict=True):
        rest += 4 * frames * len(heads) * width * size + 2 * frames**2 * len(heads) * size + 2 * frames * width * units
    return extractor, rest, sum(frames * len(heads) * size * 8 for heads in structure.heads)


def macs(module: Any, *inputs: Any) -> dict[str, int]:
    with FlopCounterMode(display=False, depth=4) as counter:
        module(*inputs)
    return {path: sum(counts.values()) // 2 for path, counts in counter.get_flop_counts().items()}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_macs_are_exact(name: str) -> None:
    structure = named_structure(name)
    parameters, total, extractor = COUNTS[name]
    with torch.device("meta"):
        wavlm = WavLM(structure).eval()
        counted = macs(wavlm, torch.empty(1, 16000))
    assert sum(weight.numel() for weight in wavlm.parameters()) == parameters
    assert (counted["Global"], counted["WavLM.extractor"]) == (total, extractor)
    assert counted["WavLM.encoder"] == total - extractor
    formula = macs_by_formula(structure, 16000)
    assert sum(formula) == total
    assert sum(formula[:2]) == LEFT_OUT[name]
    assert formula[0] == extractor


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_transformers_and_torchaudio(kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is compared with")
    torchaudio = pytest.importorskip("torchaudio", reason="torchaudio is compared with")
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    large |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    config = transformers.WavLMConfig(**(large if kind == "large" else {}))
    with torch.device("meta"):
        theirs = transformers.WavLMModel(config)
        other = torchaudio.models.wavlm_large() if kind == "large" else torchaudio.models.wavlm_base()
    counts = [sum(weight.numel() for weight in module.parameters()) for module in (theirs, other)]
    ours = COUNTS["wavlm-large" if kind == "large" else "wavlm-base-plus"][0]
    assert counts == [ours + config.hidden_size, ours]  # transformers adds the vector of masked frames


def test_all_named_structures_are_counted_here() -> None:
    assert set(COUNTS) == set(structure_names())


def test_a_bias_that_pruning_kept_has_no_place_in_other_layouts():
    structure = small("base")
    heads = (structure.heads[0], (), *structure.heads[2:])
    wavlm = WavLM(replace(structure, heads=heads, attention_biases=(1,)))
    with pytest.raises(MissingRequirementError, match="no place for the output bias of what was removed"):
        in_layout(wavlm, layout="hugging-face")
