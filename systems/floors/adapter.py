"""Systems that a real one has to beat: nobody ever, one speaker all the time, all speech as one speaker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from diarbench.errors import AdapterError
from diarbench.measure import Network, stage
from diarbench.pipelines.vad import SpeechRules, speech_spans
from diarbench.types import Audio, Seconds, Turns

if TYPE_CHECKING:
    from torch import nn


class Silence:
    """Nobody ever speaks: all reference speech is missed, so the DER is 1."""

    def diarize(self, audio: Audio) -> Turns:
        """No turns."""
        return Turns.of([])


class OneSpeaker:
    """One speaker speaks from the first moment to the last."""

    def diarize(self, audio: Audio) -> Turns:
        """One turn."""
        return Turns.of([(0.0, audio.duration, "speaker1")])


class VadOnly:
    """All speech that Silero VAD finds, as one speaker: silero-ge2e without its embeddings and clusters."""

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],  # "vad": silero_vad.jit
        device: str = "cpu",
        onset: float = SpeechRules.onset,
        offset: float = SpeechRules.offset,
        min_off: Seconds = SpeechRules.min_off,
        min_on: Seconds = SpeechRules.min_on,
        pad: Seconds = SpeechRules.pad,
    ) -> None:
        # Here, so that the other floors need no torch.
        from diarbench.nn.silero import SileroVad

        self.rules = SpeechRules(onset, offset, min_off, min_on, pad)
        self._vad = SileroVad.load(weights["vad"]).to(device)

    def diarize(self, audio: Audio) -> Turns:
        """One turn per span of speech. Raises AdapterError where the signal is not at 16 kHz."""
        from diarbench.nn import silero

        if audio.sample_rate != silero.SAMPLE_RATE:
            raise AdapterError(
                f"this network takes {silero.SAMPLE_RATE} Hz, and the dataset card of {audio.recording.id!r} asks for "
                f"{audio.sample_rate} Hz; take sample_rate out of that card, or set it to {silero.SAMPLE_RATE}"
            )
        with stage("vad"):
            probabilities = self._vad.probabilities(audio.mono())
            spans = speech_spans(probabilities, self.rules, hop=silero.HOP, duration=audio.duration)
        return Turns.of((start, end, "speaker1") for start, end in spans)

    def modules(self) -> Mapping[str, nn.Module]:
        """The network as it runs."""
        return {"vad": self._vad}

    @classmethod
    def networks(cls, **_options: object) -> Mapping[str, Network]:
        """The network without weights; no option changes its size."""
        from diarbench.nn import silero

        return {"vad": silero.network()}
