"""A recording that ships inside a wheel on PyPI, found without importing its package."""

from __future__ import annotations

from diarbench.cards import DatasetCard, WheelFiles
from diarbench.errors import InputError
from diarbench.fetch import wheel_member
from diarbench.loaders.corpus import Corpus, Signal
from diarbench.loaders.folder import read_reference_files


def read_wheel(card: DatasetCard, wheel: WheelFiles) -> Corpus:
    """The recording and its reference. Raises MissingRequirementError or InputError."""
    if card.uem != "whole-file":
        raise InputError('a dataset from a wheel is scored over the whole file: write uem = "whole-file"')
    audio = wheel_member(wheel.wheel, wheel.audio, wheel.audio_sha256)
    reference = wheel_member(wheel.wheel, wheel.reference, wheel.reference_sha256)
    references = read_reference_files(reference)
    signals = dict.fromkeys(references.turns, Signal(audio, card.channel))
    return Corpus(audio, references.turns, str(reference), signals, None, card.uem, files=references.files)
