"""A recording that ships inside a wheel on PyPI, found without importing its package."""

from __future__ import annotations

from diarbench.audio import check_channels, read_header
from diarbench.cards import DatasetCard, WheelFiles
from diarbench.errors import InputError
from diarbench.fetch import wheel_member
from diarbench.rttm import read_rttm
from diarbench.types import LabelledRecording, Recording


def load_wheel(card: DatasetCard, wheel: WheelFiles) -> list[LabelledRecording]:
    """The recording, its reference and its region. Raises MissingRequirementError or InputError."""
    if card.uem != "whole-file":
        raise InputError('a dataset from a wheel is scored over the whole file: write uem = "whole-file"')
    audio = wheel_member(wheel.wheel, wheel.audio, wheel.audio_sha256)
    references = read_rttm(wheel_member(wheel.wheel, wheel.reference, wheel.reference_sha256))
    header = read_header(audio)
    check_channels(audio, header.channels, card.channel)
    return [
        LabelledRecording(
            Recording(recording_id, audio, header.duration, card.sample_rate, card.channel),
            reference,
            ((0.0, header.duration),),
        )
        for recording_id, reference in references.items()
    ]
