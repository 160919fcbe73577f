"""GE2E: mel power, embeddings, and what each variant changes and leaves alone."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diarbench.errors import MissingRequirementError
from diarbench.nn import ge2e
from diarbench.nn.ge2e import Ge2eEncoder, mel_filters, mel_power, prune_rows, remove_units, to_bfloat16, to_int8


@pytest.fixture(scope="module")
def encoder() -> Ge2eEncoder:
    torch.manual_seed(0)
    return Ge2eEncoder().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def mels() -> Tensor:
    """Mel power (50 frames, 6 windows, 40)."""
    return torch.rand(50, 6, 40, generator=torch.Generator().manual_seed(1))


FULL = torch.full((6,), 50)


def cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum(dim=1).min())


def test_filters_are_slaneys() -> None:
    """Against torchaudio 2.11: melscale_fbanks(201, 0, 8000, 40, 16000, norm="slaney", mel_scale="slaney")."""
    filters = mel_filters()
    assert filters.shape == (201, 40)
    peaks = {band: (int(filters[:, band].argmax()), float(filters[:, band].max())) for band in (0, 13, 14, 25, 39)}
    expected = {
        0: (2, 0.012404520995914936),
        13: (26, 0.011443518102169037),
        14: (28, 0.01084917038679123),
        25: (64, 0.005040566902607679),
        39: (185, 0.0017249486409127712),
    }
    assert {band: bin_ for band, (bin_, _) in peaks.items()} == {band: bin_ for band, (bin_, _) in expected.items()}
    for band, (_, height) in expected.items():
        assert peaks[band][1] == pytest.approx(height, rel=1e-5)
    assert [(filters[:, band] > 0).sum() for band in (0, 25, 39)] == [3, 10, 28]
    np.testing.assert_allclose(filters[:, 30:].sum(axis=0) * 40, 1.0, rtol=0.02, err_msg="areas, bins of 40 Hz")


def test_mel_power_is_the_squared_stft_through_the_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = torch.randn(16000 + 77, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(400)
    stft = torch.stft(signal, 400, 160, window=window, center=True, pad_mode="constant", return_complex=True)
    expected = stft.abs().square().T @ torch.from_numpy(mel_filters())
    found = mel_power(signal)
    assert found.shape == (101, 40)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(ge2e, "_BLOCK", 13)
    torch.testing.assert_close(mel_power(signal), found, rtol=1e-5, atol=1e-6)


def test_embeddings_are_those_of_one_lstm_of_three_layers(
    weights: dict[str, Path], speech: NDArray[np.float32]
) -> None:
    state = torch.load(weights["embedding"], weights_only=True, map_location="cpu")["model_state"]
    lstm, linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
    lstm.load_state_dict({name[5:]: tensor for name, tensor in state.items() if name.startswith("lstm.")})
    linear.load_state_dict({name[7:]: tensor for name, tensor in state.items() if name.startswith("linear.")})
    windows = mel_power(torch.from_numpy(speech))[:1120].reshape(7, 160, 40)
    with torch.no_grad():
        expected = nn.functional.normalize(torch.relu(linear(lstm(windows)[1][0][-1])), dim=1)
    found = Ge2eEncoder.load(weights["embedding"])(windows.transpose(0, 1), torch.full((7,), 160))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.norm(dim=1).numpy() == pytest.approx(np.ones(7), abs=1e-5)


def test_what_comes_after_a_windows_own_frames_changes_nothing(encoder: Ge2eEncoder, mels: Tensor) -> None:
    lengths = torch.tensor([50, 1, 20, 33, 50, 49])
    together = encoder(mels, lengths)
    for index, length in enumerate(lengths.tolist()):
        alone = encoder(mels[:length, index : index + 1], torch.tensor([length]))
        torch.testing.assert_close(together[index], alone[0], rtol=0, atol=1e-6)


def test_pruning_zeroes_the_smallest_of_each_row(encoder: Ge2eEncoder) -> None:
    before = copy.deepcopy(encoder.state_dict())
    pruned = prune_rows(encoder, 0.5)
    for name, weight in pruned.state_dict().items():
        original = before[name]
        torch.testing.assert_close(encoder.state_dict()[name], original, rtol=0, atol=0)
        if weight.ndim == 1:
            torch.testing.assert_close(weight, original, rtol=0, atol=0)
            continue
        zero = weight == 0
        assert (zero.sum(dim=1) == weight.shape[1] // 2).all()
        torch.testing.assert_close(weight[~zero], original[~zero], rtol=0, atol=0)
        largest_gone = original.abs().masked_fill(~zero, 0).amax(dim=1)
        smallest_left = original.abs().masked_fill(zero, torch.inf).amin(dim=1)
        assert (largest_gone <= smallest_left).all()


def test_removing_units_that_do_nothing_changes_nothing(encoder: Ge2eEncoder, mels: Tensor) -> None:
    """Units of zero weights are the smallest, and give zero; without them the outputs are the same."""
    idle = copy.deepcopy(encoder)
    readers = [*(layer.weight_ih_l0 for layer in idle.layers[1:]), idle.linear.weight]
    for number, (layer, reader) in enumerate(zip(idle.layers, readers, strict=True)):
        units = torch.arange(number, 256, 4)  # a quarter, others in each layer
        for gate in range(4):
            for weight in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0):
                weight.data[gate * 256 + units] = 0
        layer.weight_hh_l0.data[:, units] = 0
        reader.data[:, units] = 0
    smaller = remove_units(idle, 0.75)
    assert [layer.hidden_size for layer in smaller.layers] == [192, 192, 192]
    torch.testing.assert_close(smaller(mels, FULL), idle(mels, FULL), rtol=0, atol=1e-6)


def test_removing_units_counts(encoder: Ge2eEncoder, mels: Tensor) -> None:
    assert sum(p.numel() for p in encoder.parameters()) == 1_423_616
    assert sum(p.numel() for p in remove_units(encoder, 0.75).parameters()) == 822_016
    torch.testing.assert_close(remove_units(encoder, 1.0)(mels, FULL), encoder(mels, FULL), rtol=0, atol=1e-6)
    assert [layer.hidden_size for layer in remove_units(encoder, 0.001).layers] == [1, 1, 1]


def test_bfloat16(encoder: Ge2eEncoder, mels: Tensor) -> None:
    half = to_bfloat16(encoder)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    found, full = half(mels, FULL), encoder(mels, FULL)
    assert found.dtype == torch.float32
    assert cosine(found, full) > 0.999
    assert not torch.equal(found, full)


def test_int8_on_the_layers_named(encoder: Ge2eEncoder, mels: Tensor) -> None:
    if torch.backends.quantized.engine == "none":
        pytest.skip("this build of PyTorch has no INT8 kernels")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed, full = to_int8(encoder, layers=(1, 2)), to_int8(encoder)
    assert [type(layer) is nn.LSTM for layer in mixed.layers] == [True, False, False]
    assert [type(layer) is nn.LSTM for layer in full.layers] == [False, False, False]
    assert type(mixed.linear) is not nn.Linear
    assert all(type(layer) is nn.LSTM for layer in encoder.layers)
    reference = encoder(mels, FULL)
    assert 0.99 < cosine(mixed(mels, FULL), reference) < 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e: prune_rows(e, 1.0), "sparsity is the fraction"),
        (lambda e: prune_rows(e, -0.1), "sparsity is the fraction"),
        (lambda e: remove_units(e, 0.0), "keep is the fraction"),
        (lambda e: remove_units(e, 1.1), "keep is the fraction"),
        (lambda e: to_int8(e, layers=(3,)), "the LSTM layers are 0 to 2"),
    ],
)
def test_what_can_not_be_is_refused(encoder: Ge2eEncoder, make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(encoder)  # type: ignore[operator]


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    junk, other, code = tmp_path / "junk.pt", tmp_path / "other.pt", tmp_path / "code.pt"
    junk.write_bytes(b"no weights")
    torch.save({"model_state": {"linear.weight": torch.zeros(2, 2)}}, other)
    torch.save({"model_state": nn.Linear(2, 2)}, code)  # a pickled object: loading it would run code
    for path in (junk, code, tmp_path / "absent.pt"):
        with pytest.raises(MissingRequirementError, match=f"{path.name}: can't be read"):
            Ge2eEncoder.load(path)
    with pytest.raises(MissingRequirementError, match=r"other\.pt: not the weights of Ge2eEncoder"):
        Ge2eEncoder.load(other)
