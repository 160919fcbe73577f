"""Conversations simulated from single-speaker speech: seeded, with exact references."""

from diarbench.simulate.acoustics import Acoustics
from diarbench.simulate.conversation import Conversation, simulate_conversation
from diarbench.simulate.dataset import SimulatedDataset, simulate_dataset
from diarbench.simulate.speech import Utterance, speech_islands
from diarbench.simulate.statistics import (
    TurnStatistics,
    fit_turn_statistics,
    read_turn_statistics,
    shipped_statistics,
    write_turn_statistics,
)
from diarbench.simulate.voices import VOICES, Voice, read_sentences, synthesise_voices

__all__ = [
    "VOICES",
    "Acoustics",
    "Conversation",
    "SimulatedDataset",
    "TurnStatistics",
    "Utterance",
    "Voice",
    "fit_turn_statistics",
    "read_sentences",
    "read_turn_statistics",
    "shipped_statistics",
    "simulate_conversation",
    "simulate_dataset",
    "speech_islands",
    "synthesise_voices",
    "write_turn_statistics",
]
