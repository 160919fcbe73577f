"""WavLM as transformers and torchaudio build it, counted on the meta device: 94.4 M and 6.9 G in the pruning paper."""

from __future__ import annotations

from typing import Any

import pytest

from diarbench.measure import Network
from diarbench.measure.counts import count_system

torch = pytest.importorskip("torch", reason="torch is not installed")

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
LARGE |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


def by_transformers(large: bool) -> tuple[Any, list[str]]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    return transformers.WavLMModel(transformers.WavLMConfig(**(LARGE if large else {}))), ["feature_extractor"]


def by_torchaudio(large: bool) -> tuple[Any, list[str]]:
    models = pytest.importorskip("torchaudio", reason="torchaudio is not installed").models
    return (models.wavlm_large if large else models.wavlm_base)(), ["feature_extractor"]


@pytest.mark.parametrize(
    ("build", "large", "parameters", "macs"),
    [
        (by_transformers, False, 94_381_936, 6_914_987_008),
        (by_torchaudio, False, 94_381_168, 6_914_987_008),
        (by_transformers, True, 315_453_120, 17_820_396_544),
        (by_torchaudio, True, 315_452_096, 17_820_396_544),
    ],
    ids=["Base+, transformers", "Base+, torchaudio", "Large, transformers", "Large, torchaudio"],
)
def test_wavlm(build: Any, large: bool, parameters: int, macs: int):
    with torch.device("meta"):
        network, cnn = build(large)
    inputs = lambda batch, seconds: (torch.randn(batch, round(16000 * seconds)),)  # noqa: E731
    found = count_system(None, {"encoder": Network(network, inputs, None, {"CNN": cnn}, encoder="")}, None)
    assert found is not None
    assert (found.encoder_parameters, found.encoder_macs_1s) == (parameters, macs)
    # 2.4 G of the CNN, and 4.5 or 15.4 G of the rest.
    assert found.stages["encoder"].parts["CNN"].macs_1s == 2_450_123_776
