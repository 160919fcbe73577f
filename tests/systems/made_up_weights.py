"""Weight files in the public layouts with seeded random weights: what the hub's repositories hold, but for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from random_networks import random_plda
from random_networks import voices as voices  # what these networks tell apart
from torch import nn

from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend, in_diarizen
from diarbench.nn.fbank import FbankEend
from diarbench.nn.structures import Structure, named_structure

RATE = 16000
SMALL = HeadShape(units=16, feed_forward=24, heads=2, blocks=1, kernel=5)

_VBX = """\
method = "VBxClustering"
min_speakers = 1
max_speakers = 20
ahc_criterion = "distance"
ahc_threshold = 0.6
Fa = 0.07
Fb = 0.8
lda_dim = 128
max_iters = 20
"""
_AHC = """\
method = "AgglomerativeClustering"
min_speakers = 2
max_speakers = 8
ahc_threshold = 0.70
min_cluster_size = 30
"""


def config_toml(structure: Structure, shape: HeadShape, name: str, *, window: int = 16, vbx: bool = True) -> str:
    """A config.toml as DiariZen's repositories have it, with what only training reads."""
    overlap = f"max_speakers_per_frame = {shape.overlap}\n" if shape.overlap != 2 else ""
    kernel = f"kernel_size = {shape.kernel}\n" if shape.kernel != 31 else ""
    return f"""\
[meta]
save_dir = "exp"
seed = 3407

[finetune]
finetune = true

[inference]
[inference.args]
seg_duration = {window}
segmentation_step = 0.1
batch_size = 32
apply_median_filtering = true

[clustering]
[clustering.args]
{_VBX if vbx else _AHC}
[model]
path = "diarizen.models.eend.model_wavlm_conformer.Model"
[model.args]
wavlm_src = "{name}"
wavlm_layer_num = {structure.layers + 1}
wavlm_feat_dim = {structure.width}
attention_in = {shape.units}
ffn_hidden = {shape.feed_forward}
num_head = {shape.heads}
num_layer = {shape.blocks}
{kernel}{overlap}dropout = 0.1
chunk_size = {window}
use_posi = false
output_activate_function = false
selected_channel = 0
max_speakers_per_chunk = 4
"""


def diarizen_folder(
    folder: Path,
    name: str,
    *,
    shape: HeadShape | None = None,
    own: Structure | None = None,
    window: int = 16,
    vbx: bool = True,
    samples: NDArray[np.float32] | None = None,
) -> Path:
    """A DiariZen repository; `name` is its WavLM's, or with `own` what stands in its config all the same."""
    structure, shape = own or named_structure(name), shape or HeadShape()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = Eend(structure, shape).eval()
    if samples is not None:
        tell_apart(network, samples, window)
    torch.save(in_diarizen(network), folder / "pytorch_model.bin")
    (folder / "config.toml").write_text(config_toml(structure, shape, name, window=window, vbx=vbx))
    if own is not None:
        (folder / "structure.json").write_text(own.to_json())
    if vbx:
        random_plda(folder / "plda")
    return folder


def tell_apart(network: Eend | FbankEend, samples: NDArray[np.float32], window: int) -> None:
    """Change the classifier so that each class is the likeliest somewhere: random ones say the same of everything."""
    _tell_apart(network, network.head.classifier, torch.from_numpy(np.resize(samples, (4, window * RATE))))


@torch.inference_mode()
def _tell_apart(network: nn.Module, last: nn.Linear, windows: torch.Tensor) -> None:
    seen: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, 1)))
    network(windows)
    handle.remove()
    mean = seen[0].mean(dim=0)
    _, sizes, directions = torch.linalg.svd(seen[0] - mean, full_matrices=False)
    random = torch.randn(last.out_features, 4, generator=torch.Generator().manual_seed(1))
    weight = 3.0 * len(seen[0]) ** 0.5 * random @ torch.diag(1 / sizes[:4]) @ directions[:4]
    last.weight.data, last.bias.data = weight.clone(), -weight @ mean


def wespeaker_file(file: Path, samples: NDArray[np.float32] | None = None) -> Path:
    """pyannote/wespeaker-voxceleb-resnet34-LM's pytorch_model.bin; with `samples`, it tells their voices apart."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding.wespeaker import WeSpeakerResNet34

    torch.manual_seed(0)
    model = WeSpeakerResNet34().eval()
    if samples is not None:
        _spread(model, samples)
    model.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0)
    return lightning_file(file, model)


def segmentation_file(
    file: Path, samples: NDArray[np.float32], *, overlap: int | None = 2, window: float = 10.0
) -> Path:
    """pyannote/segmentation-3.0's pytorch_model.bin, or without `overlap` that of pyannote/segmentation of 2022."""
    model = pyannet_model(overlap=overlap, window=window)
    _tell_apart(model, model.classifier, torch.from_numpy(np.resize(samples, (4, 1, round(window * RATE)))))
    return lightning_file(file, model)


def pyannet_model(*, overlap: int | None = 2, window: float = 10.0, monolithic: bool = True) -> Any:
    """pyannote.audio's own PyanNet in the published sizes."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "dropout": 0.5, "monolithic": monolithic}
    model = PyanNet(lstm=sizes)
    model.specifications = Specifications(
        problem=Problem.MULTI_LABEL_CLASSIFICATION if overlap is None else Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=window,
        classes=["speaker1", "speaker2", "speaker3"],
        powerset_max_classes=overlap,
        permutation_invariant=True,
    )
    model.build()
    return model.eval()


@torch.inference_mode()
def _spread(model: Any, samples: NDArray[np.float32]) -> None:
    """Change the last layer so that four directions of the embeddings tell the seconds of the signal apart."""
    last = model.resnet.seg_1
    found = model(torch.from_numpy(np.resize(samples, (12, 1, RATE))))
    mean = found.mean(dim=0)
    directions, sizes, _ = torch.linalg.svd((found - mean).T, full_matrices=False)
    scales = 1 / sizes.clamp(min=sizes[3])
    scales[4:] /= 10
    spread = directions @ torch.diag(scales) @ directions.T
    weight, bias = spread @ last.weight, spread @ (last.bias - mean)
    last.weight.data, last.bias.data = weight.clone(), bias.clone()


def lightning_file(file: Path, model: Any) -> Path:
    """A checkpoint as Lightning and pyannote.audio write it."""
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    checkpoint["hyper_parameters"] = dict(model.hparams)
    checkpoint["pytorch-lightning_version"] = "2.0.0"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, file)
    return file


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    """The shape of each entry of a module's state."""
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
