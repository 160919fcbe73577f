"""Local diarization of one window: WavLM, a weighted sum of its layers, Conformer, and classes of speaker sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from diarbench.nn.conformer import Head, HeadShape
from diarbench.nn.layouts import in_layout, layout_names, plain_state
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import WavLM
from diarbench.nn.weights import load_exactly

PARTS = {  # paths of submodules, as the pruning paper splits them
    "CNN": ("wavlm.extractor",),
    "Transformer": ("wavlm.encoder",),
    "head": ("layer_weights", "head"),
}
ENCODER = "wavlm"  # what the pruning papers count; it takes the same input as the whole
_WAVLM = "wavlm."


class Eend(nn.Module):
    """The network of DiariZen (Han et al., https://arxiv.org/abs/2409.09408) on a WavLM of any structure.

    On top of WavLM Base+ it has 6,291,992 weights in DiariZen's shape, on top of Large 6,357,540. `dropout` acts in
    training alone.
    """

    def __init__(self, structure: Structure, shape: HeadShape | None = None, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.wavlm = WavLM(structure, dropout=dropout)
        self.layer_weights = LayerWeights(structure.layers + 1)
        self.head = Head(structure.width, shape or HeadShape(), dropout=dropout)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of WavLM's convolutions sees; where its output frame lies is their middle."""
        return self.wavlm.structure.receptive_field

    @property
    def step(self) -> int:
        """Samples from one frame to the next."""
        return self.wavlm.structure.step

    def frames(self, samples: int) -> int:
        """Frames of a window of so many samples: 399 for 8 s, 599 for 12 s, 799 for 16 s."""
        return self.wavlm.structure.frames(samples)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-probabilities (windows, frames, classes) of samples (windows, samples) at 16 kHz.

        Classes are in the order of `powerset`. Raises AudioError where no frame fits.
        """
        scores: Tensor = self.head(self.wavlm(samples, self.layer_weights()))
        return scores

    def fold(self) -> Eend:
        """This network, made ready for inference as `WavLM.fold` does."""
        self.wavlm.fold()
        return self


class LayerWeights(nn.Module):
    """How much each layer counts in the sum: plain numbers, neither positive nor of sum 1."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, states), 1 / states))

    def forward(self) -> Tensor:
        """The weights (states,)."""
        return self.weight[0]


def load_diarizen(
    structure: Structure, state: Mapping[str, Tensor], path: Path | str, shape: HeadShape | None = None
) -> Eend:
    """An Eend with the flat state dict of a DiariZen model, which came from `path`; ready for inference and folded.

    An unpruned `structure` may leave out DiariZen's factors per channel, which are 1 there. The tensors are taken
    over, not copied, where they are float32 already. Raises MissingRequirementError, in one line, where names or shapes
    are not exactly those of structure and shape.
    """
    plain = plain_state(structure, state, path, layout="diarizen", prefix="wavlm_model.")
    with torch.device("meta"):
        eend = Eend(structure, shape)
    names = _diarizen_names(eend.state_dict(), plain, path)
    return load_exactly(eend, plain, path, names).fold()


def in_diarizen(eend: Eend) -> dict[str, Tensor]:
    """The weights as DiariZen's `pytorch_model.bin` holds them."""
    wavlm = in_layout(eend.wavlm, layout="diarizen")
    state = {f"wavlm_model.{name}": tensor for name, tensor in wavlm.items()}
    head = {name: tensor for name, tensor in eend.state_dict().items() if not name.startswith(_WAVLM)}
    return state | {_head_name(name): tensor for name, tensor in head.items()}


def _diarizen_names(ours: Iterable[str], state: Mapping[str, Tensor], path: Path | str) -> dict[str, str]:
    """What DiariZen calls each entry of our state."""
    names = list(ours)
    inner = [name.removeprefix(_WAVLM) for name in names if name.startswith(_WAVLM)]
    wavlm = layout_names(inner, state, path, layout="diarizen", prefix="wavlm_model.")
    head = {name: _head_name(name) for name in names if not name.startswith(_WAVLM)}
    return {f"{_WAVLM}{name}": theirs for name, theirs in wavlm.items()} | head


# Our names and DiariZen's of all but WavLM.
_RULES = (
    (r"layer_weights\.", "weight_sum."),
    (r"head\.projection\.", "proj."),
    (r"head\.norm\.", "lnorm."),
    (r"head\.classifier\.", "classifier."),
    (r"head\.conformer\.blocks\.", "conformer.conformer_layer."),
    (r"\.first\.norm\.", ".ffn1.ln_norm."),
    (r"\.first\.inner\.", ".ffn1.w_1."),
    (r"\.first\.outer\.", ".ffn1.w_2."),
    (r"\.second\.norm\.", ".ffn2.ln_norm."),
    (r"\.second\.inner\.", ".ffn2.w_1."),
    (r"\.second\.outer\.", ".ffn2.w_2."),
    (r"\.attention\.norm\.", ".mha.ln_norm."),
    (r"\.attention\.query\.", ".mha.mha.linearQ."),
    (r"\.attention\.key\.", ".mha.mha.linearK."),
    (r"\.attention\.value\.", ".mha.mha.linearV."),
    (r"\.attention\.output\.", ".mha.mha.linearO."),
    (r"\.convolution\.norm\.", ".conv.ln_norm."),
    (r"\.convolution\.inner\.", ".conv.pointwise_conv1."),
    (r"\.convolution\.depthwise\.", ".conv.depthwise_conv."),
    (r"\.convolution\.batch_norm\.", ".conv.bn_norm."),
    (r"\.convolution\.outer\.", ".conv.pointwise_conv2."),
    (r"(conformer_layer\.\d+)\.norm\.", r"\1.ln_norm."),
)


def _head_name(name: str) -> str:
    for pattern, theirs in _RULES:
        name = re.sub(pattern, theirs, name)
    return name
