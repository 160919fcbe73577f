"""Quantizing: the codes are torchao's, the files have the sizes of the paper, nothing is overstated."""

from __future__ import annotations

import copy
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("torchao", reason="quantizing needs torchao")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nn"))

from small_networks import noise, shaken, small

from diarbench.compress.quantize import calibrate, plan, quantize, rounded_matrix, sqnr
from diarbench.errors import DiarbenchError, InputError, MissingRequirementError
from diarbench.measure.held import held_weights, is_quantized
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.nn.packing import save_network
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantized import QuantLinear, kernels
from diarbench.nn.quantmodes import KINDS, MODES, quant_mode

HEAD = HeadShape(units=32, feed_forward=64, heads=2, blocks=1, kernel=5)
MIB = 2**20


@pytest.fixture(scope="module")
def eend() -> Eend:
    return shaken(Eend(small("base"), HEAD))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def linear_40() -> PyanNet:
    """The second seed's selected network, with random weights."""
    torch.manual_seed(0)
    return PyanNet(PyanNetShape(linear=(84, 84))).eval()


@given(st.integers(1, 6), st.integers(2, 5), st.sampled_from([0, 8]), st.sampled_from(["w4", "w8"]), st.integers(0, 99))
def test_codes_and_scales_are_those_of_torchaos_tensors(
    rows: int, eighths: int, group: int, name: str, seed: int
) -> None:
    from torchao.quantization import IntxUnpackedToInt8Tensor

    weight = torch.randn(rows, 8 * eighths, generator=torch.Generator().manual_seed(seed))
    codes, scale = rounded_matrix(weight, quant_mode(name, group=group))
    number = {"w4": torch.int4, "w8": torch.int8}[name]
    theirs = IntxUnpackedToInt8Tensor.from_hp(weight, (1, group or 8 * eighths), number)
    assert torch.equal(codes, theirs.qdata)
    torch.testing.assert_close(scale, theirs.scale.reshape(rows, -1), rtol=0, atol=0)


@pytest.mark.skipif(
    not kernels(quant_mode("w8a8-dynamic"), torch.device("cpu"))["linear"].real,
    reason="this CPU has no VNNI instructions",
)
@torch.inference_mode()
def test_int8_outputs_are_those_of_torchaos_own_layers() -> None:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    from torchao.quantization.quant_primitives import MappingType

    torch.manual_seed(0)
    network, frames = nn.Sequential(nn.Linear(96, 40)), torch.randn(3, 70, 96)
    ours = quantize(network, quant_mode("w8a8-dynamic")).network
    theirs = copy.deepcopy(network)
    quantize_(
        theirs,
        Int8DynamicActivationInt8WeightConfig(act_mapping_type=MappingType.ASYMMETRIC, set_inductor_config=False),
    )
    torch.testing.assert_close(ours(frames), theirs(frames), rtol=1e-5, atol=1e-5)


def test_more_bits_are_nearer_and_activations_cost(eend: Eend) -> None:
    found = {}
    for name in MODES:
        done = quantize(eend, quant_mode(name, covers=("linear", "lstm")), calibration=[noise(), noise(1)])
        assert done.report.sqnr is not None
        found[name] = done.report.sqnr
    order = ["fp16", "bf16", "w8a8-static", "w4a8-static"]
    assert all(found[better] > found[worse] + 3 for better, worse in pairwise(order)), found
    assert found["w8"] > found["w8a8-dynamic"] > found["w8a8-static"] > found["w4"] > 10, found


def test_small_groups_are_nearer_than_rows(eend: Eend) -> None:
    by_group = [quantize(eend, quant_mode("w4", group=group), check=[noise()]).report for group in (0, 16, 8)]
    for coarse, fine in pairwise(by_group):
        assert coarse.sqnr is not None
        assert fine.sqnr is not None
        assert fine.sqnr > coarse.sqnr
        assert fine.bytes_quantized > coarse.bytes_quantized


@pytest.mark.parametrize(("name", "mebibytes"), [("fp16", 2.78), ("w8a8-static", 1.54), ("w4a8-static", 0.89)])
def test_sizes_of_the_second_seeds_table_2(name: str, mebibytes: float, linear_40: PyanNet, tmp_path: Path) -> None:
    """With LSTM and linear weights at 8 and 4 bits, one scale per row; its text says linear layers alone."""
    mode = quant_mode(name, group=0)
    done = quantize(linear_40, mode, calibration=[torch.randn(1, 16000)])
    file = save_network(tmp_path / "net.safetensors", done.network)
    assert file.stat().st_size / MIB == pytest.approx(mebibytes, abs=0.035)
    assert done.report.bytes_float / MIB == pytest.approx(5.55, abs=0.01)


def test_linear_layers_alone_give_another_size_than_the_papers(linear_40: PyanNet) -> None:
    done = quantize(linear_40, quant_mode("w8", covers=["linear"]))
    assert done.report.bytes_quantized / MIB == pytest.approx(5.457, abs=0.02)
    assert done.report.share < 0.021


def test_every_weight_is_covered_or_has_a_reason(eend: Eend) -> None:
    for covers in (("linear",), ("linear", "conv"), KINDS):
        report = quantize(eend, quant_mode("w4", covers=covers, skip=("*.classifier", "wavlm.*.gate"))).report
        paths = [module.path for module in (*report.covered, *report.skipped)]
        assert len(set(paths)) == len(paths)
        assert report.weights == sum(parameter.numel() for parameter in eend.parameters())
        biases = sum(
            bias.numel()
            for module in report.covered
            for name, bias in eend.get_submodule(module.path).named_parameters()
            if name in ("bias", "gain")
        )
        skipped = sum(module.weights for module in report.skipped)
        assert report.weights_covered + biases + skipped == report.weights
        why = {module.path: module.why for module in report.skipped}
        assert why["head.classifier"] == "named by skip '*.classifier'"
        assert sum("wavlm.*.gate" in reason for reason in why.values()) == 3
        assert ("wavlm.extractor.layers.0.conv" in why) == ("conv" not in covers)
        assert json.loads(json.dumps(report.as_table()))["weights_covered"] == report.weights_covered


def test_rows_that_groups_do_not_divide_have_one_scale(linear_40: PyanNet) -> None:
    report = quantize(linear_40, quant_mode("w4")).report
    groups = {module.path: module.group for module in report.covered}
    assert groups["linear.layers.0"] == 32
    assert groups["linear.layers.1"] == 0  # 84 inputs
    assert "a scale per row" in report.as_text()
    assert "a scale per 32" in report.as_text()


def test_what_it_holds_in_memory_is_seen_from_outside(eend: Eend) -> None:
    for name, type_ in (("w8a8-dynamic", "int8"), ("w4", "int8"), ("bf16", "bfloat16")):
        done = quantize(eend, quant_mode(name, covers=("linear",)))
        held = held_weights(done.network)
        codes = done.report.weights_covered
        biases = sum(eend.get_submodule(module.path).bias.numel() for module in done.report.covered)
        assert held[type_].weights == codes + (biases if name == "bf16" else 0)
        assert sum(each.weights for each in held.values()) == done.report.weights
        assert is_quantized(done.network) == (type_ == "int8")


def test_kernels_are_called_what_they_are(eend: Eend) -> None:
    for name in ("w4a8-dynamic", "w8"):
        report = quantize(eend, quant_mode(name)).report
        assert report.kernel == "simulated"
        assert "speed not available here" in report.as_text()
        assert {module.kernel.real for module in report.covered} == {False}
    report = quantize(eend, quant_mode("w8a8-dynamic", covers=("linear", "conv"))).report
    expected = kernels(report.mode, torch.device("cpu"))["linear"].real
    assert report.kernel == ("mixed" if expected else "simulated")
    assert report.engine.startswith("torch ")
    assert report.device == "cpu"


def test_the_network_itself_stays_as_it_is(eend: Eend) -> None:
    before = {name: tensor.clone() for name, tensor in eend.state_dict().items()}
    quantize(eend, quant_mode("w4", covers=KINDS), calibration=[noise()])
    assert all(torch.equal(tensor, before[name]) for name, tensor in eend.state_dict().items())
    assert not any(isinstance(module, QuantLinear) for module in eend.modules())


def test_static_ranges_are_those_of_all_batches() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    batches = [torch.full((2, 4), -3.0), torch.full((5, 4), 7.0), torch.zeros(1, 4)]
    ranges, first = calibrate(network, ["0"], batches)
    assert (ranges.low["0"].item(), ranges.high["0"].item(), ranges.batches) == (-3.0, 7.0, 3)
    assert first is batches[0]
    inputs = quantize(network, quant_mode("w8a8-static"), calibration=iter(batches)).network[0].inputs
    assert inputs.scale.item() == pytest.approx(10 / 255)
    assert inputs.zero.item() == -128 + round(3 / 10 * 255)


class Forks(nn.Module):
    """Calls one of its two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        called: torch.Tensor = self.called(frames)
        return called


def test_what_calibration_does_not_reach_stays_in_float() -> None:
    done = quantize(Forks(), quant_mode("w8a8-static"), calibration=[torch.randn(3, 4)])
    assert [module.path for module in done.report.covered] == ["called"]
    assert [(module.path, module.why) for module in done.report.skipped] == [
        ("idle", "no calibration batch reaches it")
    ]
    assert type(done.network.idle) is nn.Linear


def test_subclasses_and_deep_lstms_are_skipped_and_named() -> None:
    network = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(8, 2),
            "deep": nn.LSTM(8, 8, num_layers=2),
            "line": nn.Linear(1, 8),
            "map": nn.Linear(8, 8),
        }
    )
    covered, skipped = plan(network, quant_mode("w8"))
    assert list(covered) == ["map"]
    why = {module.path: module.why for module in skipped}
    assert set(why) == {"attention", "attention.out_proj", "deep", "line"}
    assert "2 layers" in why["deep"]
    assert "one weight" in why["line"]


@torch.inference_mode()
def test_ge2e_with_its_first_layer_in_float_is_nearer() -> None:
    """Mel power spans decades, which 8 bits can't; this holds of the trained encoder and of a random one."""
    torch.manual_seed(0)
    encoder = Ge2eEncoder((24, 24, 24)).eval()
    inputs = (torch.rand(40, 4, 40).exp().pow(4), torch.full((4,), 40))
    found = [
        quantize(encoder, quant_mode("w4a8-static", skip=skip), calibration=[inputs]).report.sqnr
        for skip in ((), ("layers.0",))
    ]
    assert None not in found
    assert found[1] > found[0]  # type: ignore[operator]


def zeros(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: quantize(net, quant_mode("w8a8-static")), "needs batches to calibrate with"),
        (lambda net: quantize(net, quant_mode("w8a8-static"), calibration=[]), "no batch to calibrate with"),
        (
            lambda net: quantize(net, quant_mode("w8a8-static"), calibration=[torch.full((2, 8), torch.nan)]),
            "0: what it is given in calibration is not finite",
        ),
        (lambda net: quantize(net, quant_mode("w8", covers=["conv"])), "w8 covers nothing of Sequential: linear: cov"),
        (lambda net: quantize(net, quant_mode("w8", skip=["1", "0"])), "names no module that would be covered"),
        (lambda net: quantize(quantize(net, quant_mode("w8")).network, quant_mode("w8")), "quantized already"),
        (
            lambda net: quantize(net, quant_mode("w8"), check=[torch.full((2, 8), torch.inf)]),
            "outputs are not all finite",
        ),
        (lambda net: quantize(zeros(net), quant_mode("w8"), check=[torch.ones(2, 8)]), "are just those of the float"),
    ],
)
def test_what_can_not_be_done_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(nn.Sequential(nn.Linear(8, 8)))
    assert "\n" not in str(caught.value)


def test_without_torchao_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization.quant_primitives", None)
    with pytest.raises(MissingRequirementError, match=r"needs torchao: pip install 'diarbench\[quantize\]'") as caught:
        quantize(nn.Sequential(nn.Linear(8, 8)), quant_mode("w8"))
    assert isinstance(caught.value, DiarbenchError)
    quantize(nn.Sequential(nn.Linear(8, 8)), quant_mode("bf16"))  # halves need none


def test_sqnr() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert sqnr(values, values * 0.99) == pytest.approx(40.0, abs=0.01)
    assert sqnr(values, values) == float("inf")
