"""Conversations simulated from single-speaker speech: seeded, with exact references."""

from diarbench.simulate.acoustics import Acoustics
from diarbench.simulate.conversation import Conversation, simulate_conversation
from diarbench.simulate.dataset import SimulatedDataset, simulate_dataset
from diarbench.simulate.speech import Utterance, speech_islands
from diarbench.simulate.statistics import (
    TurnStatistics,
    fit_turn_statistics,
    read_turn_statistics,
    write_turn_statistics,
)

__all__ = [
    "Acoustics",
    "Conversation",
    "SimulatedDataset",
    "TurnStatistics",
    "Utterance",
    "fit_turn_statistics",
    "read_turn_statistics",
    "simulate_conversation",
    "simulate_dataset",
    "speech_islands",
    "write_turn_statistics",
]
