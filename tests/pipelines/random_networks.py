"""Random networks that find several speakers, for pipelines that need networks and can't have trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diarbench.pipelines.eend_clustering import load_plda
from diarbench.pipelines.eend_networks import SegmentationModel
from diarbench.pipelines.eend_recipes import Ahc, Recipe

RATE = 16000


class LoudBands(nn.Module):
    """(batch, 1, samples) to (batch, frames, classes): who speaks is told by the energies of random filters.

    Each of four speakers listens to a mixture of its own, compared with the mean of the window, so that who has which
    number changes from window to window, as it does in trained networks. Quiet frames are silence.
    """

    def __init__(self, overlap: int | None) -> None:
        from pyannote.audio.utils.powerset import Powerset

        super().__init__()
        self.filters = nn.Conv1d(1, 24, 400, stride=320, bias=False)
        self.smooth = nn.AvgPool1d(41, stride=1, padding=20, count_include_pad=False)
        self.head = nn.Linear(24, 4)
        self.powerset = None if overlap is None else Powerset(4, overlap)

    def forward(self, waveforms: Tensor) -> Tensor:
        energies = self.smooth(torch.log(self.filters(waveforms).square() + 1e-7)).transpose(1, 2)
        shares = torch.softmax(6.0 * self.head(energies - energies.mean(dim=1, keepdim=True)), dim=-1)
        scores = torch.logit(shares, eps=1e-6) + 1.0  # two at once where they are near each other
        scores = scores - 50.0 * (energies.mean(dim=2, keepdim=True) < -14.0)
        if self.powerset is None:
            return torch.sigmoid(scores)
        return torch.log_softmax(scores @ self.powerset.mapping.T, dim=-1)


def small_segmentation(*, window: float = 4.0, overlap: int | None = 2, seed: int = 0) -> SegmentationModel:
    """A segmentation model of 4 speakers; no powerset classifier with `overlap` None."""
    torch.manual_seed(seed)
    return SegmentationModel(LoudBands(overlap), window=window, speakers=4, overlap=overlap)


def pyannet(samples: NDArray[np.float32], seed: int = 0) -> Any:
    """pyannote/segmentation-3.0's shape: 10 s, 3 speakers, at most 2 at once; classes change over the given signal."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(seed)
    model = PyanNet(lstm={"hidden_size": 128, "num_layers": 4, "bidirectional": True, "dropout": 0.5})
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=["speaker1", "speaker2", "speaker3"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    model.eval().requires_grad_(False)
    last, seen = model.classifier, []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, 1)))
    with torch.inference_mode():
        model(torch.from_numpy(np.resize(samples, (4, 1, 10 * RATE))))
    handle.remove()
    mean = seen[0].mean(dim=0).clone()
    _, sizes, directions = torch.linalg.svd((seen[0] - mean).clone(), full_matrices=False)
    mixed = torch.randn(last.out_features, 6) @ torch.diag(1 / sizes[:6]) @ directions[:6]
    last.weight.copy_(3.0 * len(seen[0]) ** 0.5 * mixed)
    last.bias.copy_(-last.weight @ mean)
    return model


def resnet(samples: NDArray[np.float32], seed: int = 0, *, small: bool = True) -> Any:
    """An embedding model of WeSpeaker's kind, few channels of it or ResNet34 as published.

    Random networks say nearly the same of all voices: the last layer is changed so that those in the given signal lie
    apart.
    """
    from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet, WeSpeakerResNet34
    from pyannote.audio.models.embedding.wespeaker.resnet import BasicBlock, ResNet

    torch.manual_seed(seed)
    if small:
        model = BaseWeSpeakerResNet()
        model.resnet = ResNet(BasicBlock, [1, 1, 1, 1], 8, 80, 256, two_emb_layer=False)
    else:
        model = WeSpeakerResNet34()
    model.eval().requires_grad_(False)
    windows = torch.from_numpy(np.resize(samples, (60, 1, 2 * RATE)))
    weights = (torch.rand(60, 10).sort(dim=1).values > 0.5).float()
    with torch.inference_mode():
        found = torch.cat([model(windows[i : i + 4], weights=weights[i : i + 4]) for i in range(0, 60, 4)])
    mean = found.mean(dim=0).clone()
    directions, sizes, _ = torch.linalg.svd((found - mean).T.clone(), full_matrices=False)
    scales = 1 / sizes.clamp(min=sizes[3])
    scales[4:] /= 10  # four directions tell voices apart
    spread = directions @ torch.diag(scales) @ directions.T
    last = model.resnet.seg_1
    last.weight.copy_(spread @ last.weight)
    last.bias.copy_(spread @ (last.bias - mean))
    return model


def random_plda(folder: Path) -> Path:
    """A PLDA model in the published layout and shapes."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "xvec_transform.npz",
        mean1=0.01 * random.standard_normal(256),
        mean2=0.01 * random.standard_normal(128),
        lda=random.standard_normal((256, 128)) / 16,
    )
    transform = 4.0 * np.linalg.qr(random.standard_normal((128, 128)))[0]
    np.savez(folder / "plda.npz", mu=np.zeros(128), tr=transform, psi=np.sort(random.uniform(0.5, 20, 128))[::-1])
    return folder


def voices(seconds: float, *, seed: int = 0, speakers: int = 4) -> NDArray[np.float32]:
    """Speakers that take turns, overlap and pause, each filtered noise of a colour of its own; shape (samples,)."""
    random = np.random.default_rng(seed)
    total = round(seconds * RATE)
    signal = np.zeros(total, dtype=np.float32)
    kernels = random.standard_normal((speakers, 24)).astype(np.float32) / 5
    start = 0
    while start < total:
        length = round(random.uniform(0.5, 3.0) * RATE)
        noise = random.standard_normal(length).astype(np.float32)
        noise = np.convolve(noise, kernels[random.integers(speakers)], mode="same")
        noise *= 0.1 * (1 + 0.5 * np.sin(np.arange(length) * random.uniform(5, 40) / RATE)).astype(np.float32)
        own = signal[start : start + length]
        own += noise[: len(own)]
        start = max(0, start + length + round(random.uniform(-0.8, 0.8) * RATE))
    return signal


def pyannote_pipeline(
    segmentation: Any, embedding: Any, recipe: Recipe, plda: Path, *, hop_share: float = 0.1, batch: int = 32
) -> Any:
    """pyannote.audio's own pipeline with the settings of a recipe; 32 is the batch of its published ones."""
    from pyannote.audio.pipelines import SpeakerDiarization

    chosen = recipe.clustering
    if isinstance(chosen, Ahc):
        name, parameters = "AgglomerativeClustering", {"method": chosen.method, "threshold": chosen.threshold}
        parameters["min_cluster_size"] = chosen.min_cluster_size
    else:
        name, parameters = "VBxClustering", {"threshold": chosen.threshold, "Fa": chosen.fa, "Fb": chosen.fb}
    pipeline = SpeakerDiarization(
        segmentation=segmentation,
        segmentation_step=hop_share,
        embedding=embedding,
        embedding_exclude_overlap=recipe.exclude_overlap,
        plda=load_plda(plda),
        clustering=name,
        segmentation_batch_size=batch,
        embedding_batch_size=batch,
    )
    decisions = {"min_duration_off": recipe.min_off}
    if not segmentation.specifications.powerset:
        decisions["threshold"] = recipe.onset
    return pipeline.instantiate({"segmentation": decisions, "clustering": parameters})
