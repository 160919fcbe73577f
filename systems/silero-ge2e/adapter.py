"""Silero VAD, GE2E embeddings of sliding windows, and clustering with an automatic number of speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from diarbench.errors import AdapterError
from diarbench.measure import Network, stage
from diarbench.nn import ge2e, silero
from diarbench.nn.quantized import quantization_in, simulated
from diarbench.pipelines import clustering
from diarbench.pipelines.embedding import embed_windows
from diarbench.pipelines.vad import SpeechRules, speech_spans
from diarbench.pipelines.windows import Windows, slide, turns_from_windows
from diarbench.types import Audio, Seconds, Spans, Turns

LEVEL = -30.0  # dBFS of speech, to which Resemblyzer brings recordings before it embeds them
SHORTEST = 0.6  # s: a shorter span of speech is embedded with what is around it
FULL = (256, 256, 256)  # hidden units of GE2E's layers


class SileroGe2e:
    """Speech by Silero VAD, cut into windows; one GE2E embedding each; clusters of these are the speakers.

    One speaker at a time: overlapped speech is given to one of its speakers. The settings' defaults were tuned by
    tune.py, beside this file; the cards say on what. A quantized encoder without a kernel of its own on the device is
    simulated, and not timed.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],  # "vad": silero_vad.jit, "embedding": Resemblyzer's pretrained.pt, or our own file
        device: str = "cpu",
        onset: float = SpeechRules.onset,
        offset: float = SpeechRules.offset,
        min_off: Seconds = SpeechRules.min_off,
        min_on: Seconds = SpeechRules.min_on,
        pad: Seconds = SpeechRules.pad,
        window: Seconds = ge2e.WINDOW,  # of one embedding
        hop: Seconds = 0.4,
        clusters: str = "ahc",  # or "spectral"
        threshold: float = 0.7,  # cosine distance at which AHC stops
        min_speaker: Seconds = 3.0,  # of speech: AHC dissolves smaller clusters
        min_neighbours: int = 10,  # of a window, for spectral clustering
        min_share: float = 0.2,  # of all windows: if that is more, the fewest neighbours
        max_speakers: int = 8,  # that spectral clustering may find
        centring: float = 0.5,  # share of the recording's mean embedding that is taken off each
        precision: str = "fp32",  # of the embedding network: see PRECISIONS
        sparsity: float = 0.0,  # of the embedding network's matrices, by row
        keep_units: float = 1.0,  # fraction of the hidden units of each of its layers
        units: Sequence[int] = FULL,  # that the layers of the file have: what `diarbench compress` left
        quantization: str | None = None,  # that the file has: a name of diarbench.nn.quantmodes
    ) -> None:
        _check_choice("clusters", clusters, ("ahc", "spectral"))
        _check_choice("precision", precision, PRECISIONS)
        if window <= 0 or hop <= 0 or hop > window:
            raise ValueError(f"0 < hop <= window must hold (s); got window {window}, hop {hop}")
        if not (0 <= threshold <= 2 and min_speaker >= 0 and 0 <= centring <= 1):
            raise ValueError(
                "threshold must be from 0 to 2, min_speaker 0 s or more, centring from 0 to 1; got "
                f"{threshold}, {min_speaker} and {centring}"
            )
        if min_neighbours < 2 or max_speakers < 1 or not 0 <= min_share <= 1:
            raise ValueError(
                "min_neighbours must be 2 or more, max_speakers 1 or more, min_share from 0 to 1; got "
                f"{min_neighbours}, {max_speakers} and {min_share}"
            )
        if precision.startswith("int8") and device != "cpu":
            raise ValueError(f"precision {precision!r} runs on the CPU only, not on {device!r}")
        self.rules = SpeechRules(onset, offset, min_off, min_on, pad)
        self.window, self.hop = window, hop
        self.clusters, self.threshold, self.min_speaker = clusters, threshold, min_speaker
        self.min_neighbours, self.min_share, self.max_speakers = min_neighbours, min_share, max_speakers
        self.centring = centring

        if clusters == "spectral":
            import sklearn.cluster  # noqa: F401  here, so that no recording's time holds it

        self._device = torch.device(device)
        self._vad = silero.SileroVad.load(weights["vad"]).to(self._device)
        network = ge2e.Ge2eEncoder.load(weights["embedding"])
        _check_file(network, units, quantization)
        self.timed = not simulated(network, self._device)
        network = ge2e.remove_units(network, keep_units) if keep_units != 1 else network
        network = ge2e.prune_rows(network, sparsity) if sparsity != 0 else network
        self._encoder = _at_precision(network, precision).to(self._device)

    def diarize(self, audio: Audio) -> Turns:
        """Who spoke when. Raises AdapterError where the signal is not at 16 kHz."""
        if audio.sample_rate != silero.SAMPLE_RATE:
            raise AdapterError(
                f"these networks take {silero.SAMPLE_RATE} Hz, and the dataset card of {audio.recording.id!r} asks for "
                f"{audio.sample_rate} Hz; take sample_rate out of that card, or set it to {silero.SAMPLE_RATE}"
            )
        samples = audio.mono()
        with stage("vad"):
            spans = self.speech(samples)
        with stage("embedding"):
            windows, embeddings = self.embed(samples, spans)
        with stage("clustering"):
            return turns_from_windows(spans, windows, self.cluster(embeddings))

    def modules(self) -> Mapping[str, nn.Module]:
        """The networks as they run, by stage."""
        return {"vad": self._vad, "embedding": self._encoder}

    @classmethod
    def networks(
        cls,
        *,
        window: Seconds = ge2e.WINDOW,
        keep_units: float = 1.0,
        units: Sequence[int] = FULL,
        **_others: object,
    ) -> Mapping[str, Network]:
        """The networks without weights, in full precision; of the options, only these three change their sizes."""
        embedding = ge2e.network(window=window, keep_units=keep_units, units=units)
        return {"vad": silero.network(), "embedding": embedding}

    def speech(self, samples: NDArray[np.float32]) -> Spans:
        """Where speech is (s) in a 16 kHz signal of shape (samples,)."""
        duration = len(samples) / silero.SAMPLE_RATE
        return speech_spans(self._vad.probabilities(samples), self.rules, hop=silero.HOP, duration=duration)

    def embed(self, samples: NDArray[np.float32], spans: Spans) -> tuple[Windows, NDArray[np.float32]]:
        """Windows over the speech, and their embeddings (windows, 256)."""
        duration = len(samples) / silero.SAMPLE_RATE
        windows = slide(spans, window=self.window, hop=self.hop, shortest=min(SHORTEST, self.window), duration=duration)
        if len(windows) == 0:
            return windows, np.zeros((0, 0), dtype=np.float32)
        signal = torch.tensor(samples, device=self._device)
        features = ge2e.mel_power(signal).mul_(_gain_to_level(samples, spans))
        frame = ge2e.FRAME / ge2e.SAMPLE_RATE
        return windows, embed_windows(self._encoder, features, windows, frame=frame)

    def cluster(self, embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
        """The speaker, counted from 0, of each of the embeddings (windows, 256)."""
        centred = clustering.centre(embeddings, share=self.centring)
        if self.clusters == "spectral":
            return clustering.spectral(
                centred,
                min_neighbours=self.min_neighbours,
                min_share=self.min_share,
                max_speakers=self.max_speakers,
            )
        labels = clustering.agglomerative(centred, threshold=self.threshold)
        return clustering.nearest_mean(centred, labels, smallest=round(self.min_speaker / self.hop))


PRECISIONS = ("fp32", "bf16", "int8", "int8-mixed")


def _at_precision(network: ge2e.Ge2eEncoder, precision: str) -> ge2e.Ge2eEncoder:
    if precision == "bf16":
        return ge2e.to_bfloat16(network)
    if precision == "int8":
        return ge2e.to_int8(network)
    if precision == "int8-mixed":
        # Layer 0 reads mel power, whose range one scale per matrix can't hold.
        return ge2e.to_int8(network, layers=(1, 2))
    return network


def _check_file(network: ge2e.Ge2eEncoder, units: Sequence[int], quantization: str | None) -> None:
    """What the card says of the encoder's file has to be so: it is what is counted and shown."""
    if network.units != tuple(units):
        raise ValueError(f"units must be those of the encoder's file, {list(network.units)}; got {list(units)}")
    found = quantization_in(network)
    name = found.mode.name if found is not None else None
    if name != quantization:
        raise ValueError(f"quantization must be that of the encoder's file, {name or 'none'}; got {quantization!r}")


def _gain_to_level(samples: NDArray[np.float32], spans: Spans) -> float:
    """What mel power is multiplied by, so that the speech is at LEVEL."""
    speech = [samples[round(start * ge2e.SAMPLE_RATE) : round(end * ge2e.SAMPLE_RATE)] for start, end in spans]
    power = sum(float(part @ part) for part in speech) / max(1, sum(len(part) for part in speech))
    return 10.0 ** (LEVEL / 10.0) / power if power > 0.0 else 0.0


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
