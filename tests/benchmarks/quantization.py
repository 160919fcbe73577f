"""What each quantization of a network costs and buys: nearness of its outputs, bytes of its file, processor time.

    python tests/benchmarks/quantization.py                      small Eend, PyanNet Linear-40: random weights
    python tests/benchmarks/quantization.py --folder FOLDER      a network of diarbench's own layout
    python tests/benchmarks/quantization.py --structure NAME     DiariZen's network on a WavLM of that structure: random
    python tests/benchmarks/quantization.py --ge2e pretrained.pt GE2E, with the weights from Resemblyzer's wheel

Prints a table in Markdown. Ratios are of processor time on one thread, float32 over the mode, medians over rounds in
which all take their turns in random order; where no kernel runs all
the numbers as they are, there is none. AUDIO is a
folder of recordings at 16 kHz, of which the first half calibrates and the second is compared; without it, noise.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn

from diarbench.compress.quantize import isa, quantize, sqnr
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import load_eend
from diarbench.nn.ge2e import Ge2eEncoder, mel_power
from diarbench.nn.packing import serialized
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantmodes import KINDS, MODES, quant_mode
from diarbench.nn.structures import Convolution, named_structure

RATE = 16000
MIB = 2**20


def speech(folder: Path | None, seconds: float) -> torch.Tensor:
    """So many seconds (samples,) of it."""
    if folder is None:
        return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".flac", ".ogg", ".opus", ".wav"))
    step, parts, found = max(1, len(files) // 50), [], 0  # several voices
    for file in files[::step]:
        parts.append(soundfile.read(file, dtype="float32")[0])
        found += len(parts[-1])
        if found > seconds * RATE:
            break
    return torch.from_numpy(np.resize(np.concatenate(parts), round(seconds * RATE)))


def small_eend() -> Eend:
    """A WavLM of width 192 with 6 layers, and a Conformer of 2 blocks: 5 million weights, random."""
    from dataclasses import replace

    base = named_structure("wavlm-base-plus")
    structure = replace(
        base,
        convolutions=tuple(Convolution(128, layer.kernel, layer.stride) for layer in base.convolutions),
        width=192,
        total_heads=3,
        heads=((0, 1, 2),) * 6,
        feed_forward=(768,) * 6,
    )
    return Eend(structure, HeadShape(units=128, feed_forward=512, blocks=2)).eval().fold()


def in_windows(samples: torch.Tensor, seconds: float) -> torch.Tensor:
    """Windows (4, samples)."""
    return samples[: round(4 * seconds * RATE)].reshape(4, -1)


def torch_ao(network: nn.Module) -> nn.Module:
    """PyTorch's older dynamic quantization, the only one with a kernel for LSTMs; deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(network), {nn.LSTM, nn.Linear})


def times(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """How much faster each is than "float32": medians over rounds of ratios of processor time."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for name in calls:
        calls[name]()
    for _ in range(rounds):
        for name in random.sample(list(calls), len(calls)):
            start = time.process_time()
            calls[name]()
            found[name].append(time.process_time() - start)
    plain = found["float32"]
    return {
        name: statistics.median(one / other for one, other in zip(plain, each, strict=True))
        for name, each in found.items()
    }


@torch.inference_mode()
def table(
    title: str, network: nn.Module, calibration: Any, held_out: Any, rounds: int, old: bool, skip: tuple[str, ...] = ()
) -> None:
    """Print what all modes come to."""

    def call(made: nn.Module) -> Callable[[], torch.Tensor]:
        return lambda: made(*held_out) if isinstance(held_out, tuple) else made(held_out)

    calls = {"float32": call(network)}
    convolutions = any(isinstance(module, nn.Conv1d) for module in network.modules())
    lines = []
    for name in MODES:
        choices = [KINDS] if name.endswith("16") else [("linear", "lstm"), KINDS][: 1 + convolutions]
        for group in (0, None) if name.startswith("w4") else (None,):
            for covers in choices:
                mode = quant_mode(name, group=group, covers=covers, skip=skip)
                done = quantize(network, mode, calibration=[calibration], check=[held_out])
                label = f"{name}, {'+'.join(covers)}" + (f", group {mode.group}" if mode.group else "")
                lines.append((label, done.report))
                if done.report.kernel == "real":
                    calls[label] = call(done.network)
    if old:
        calls["torch.ao dynamic"] = call(torch_ao(network))
    ratios = times(calls, rounds)
    size = len(serialized(network))
    print(f"\n{title}: {sum(each.numel() for each in network.parameters()):,} weights, {size / MIB:.3f} MiB\n")
    print("| mode, covers | weights covered | SQNR, dB | file, MiB | kernel | processor time, float32 over it |")
    print("|---|---|---|---|---|---|")
    for label, report in lines:
        speed = f"{ratios[label]:.2f}" if label in ratios else "not available here"
        file = f"{report.bytes_quantized / MIB:.3f}"
        print(f"| {label} | {report.share:.1%} | {report.sqnr:.1f} | {file} | {report.kernel} | {speed} |")
    if old:
        nearness = sqnr(calls["float32"](), calls["torch.ao dynamic"]())
        print(f"| torch.ao dynamic, linear+lstm | | {nearness:.1f} | | real | {ratios['torch.ao dynamic']:.2f} |")


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--structure")
    parser.add_argument("--ge2e", type=Path)
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    print(f"torch {torch.__version__}, one thread, {', '.join(isa(torch.device('cpu')))}")

    if arguments.ge2e is not None:
        mels = mel_power(speech(arguments.audio, 160.0))[: 96 * 160].reshape(96, 160, 40).transpose(0, 1)
        batches = [(half, torch.full((48,), 160)) for half in mels.chunk(2, dim=1)]
        encoder, title = Ge2eEncoder.load(arguments.ge2e), "GE2E, trained, 48 windows of 1.6 s"
        table(title, encoder, *batches, arguments.rounds, True)
        table(f"{title}, first layer in float", encoder, *batches, arguments.rounds, False, ("layers.0",))
        return
    if arguments.folder is not None:
        found = load_eend(arguments.folder)
        networks = {str(arguments.folder.name): (found.network, found.window, found.front_end == "pyannet")}
    elif arguments.structure is not None:
        eend = Eend(named_structure(arguments.structure)).eval().fold()
        networks = {f"{arguments.structure}, random weights": (eend, 8.0, False)}
    else:
        pyannet = PyanNet(PyanNetShape(linear=(84, 84))).eval()
        networks = {
            "small Eend, random weights": (small_eend(), 8.0, False),
            "PyanNet Linear-40, random weights": (pyannet, 10.0, True),
        }
    for title, (network, window, old) in networks.items():
        samples = speech(arguments.audio, 8 * window)
        halves = [in_windows(half, window) for half in samples.chunk(2)]
        table(f"{title}, 4 windows of {window:g} s", network, *halves, arguments.rounds, old)


if __name__ == "__main__":
    main()
