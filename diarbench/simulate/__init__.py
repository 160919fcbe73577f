"""Conversations simulated from single-speaker speech: seeded, with exact references."""

from diarbench.simulate.acoustics import Acoustics
from diarbench.simulate.conversation import Conversation, simulate_conversation
from diarbench.simulate.dataset import SimulatedDataset, simulate_dataset
from diarbench.simulate.rooms import Room
from diarbench.simulate.scenes import PRESETS, Heard, Mixture, Scene, preset
from diarbench.simulate.speech import Utterance, speech_islands
from diarbench.simulate.statistics import (
    TurnStatistics,
    fit_turn_statistics,
    read_turn_statistics,
    shipped_statistics,
    write_turn_statistics,
)
from diarbench.simulate.variety import VariedTurns
from diarbench.simulate.voices import VOICES, Voice, read_sentences, synthesise_voices

__all__ = [
    "PRESETS",
    "VOICES",
    "Acoustics",
    "Conversation",
    "Heard",
    "Mixture",
    "Room",
    "Scene",
    "SimulatedDataset",
    "TurnStatistics",
    "Utterance",
    "VariedTurns",
    "Voice",
    "fit_turn_statistics",
    "preset",
    "read_sentences",
    "read_turn_statistics",
    "shipped_statistics",
    "simulate_conversation",
    "simulate_dataset",
    "speech_islands",
    "synthesise_voices",
    "write_turn_statistics",
]
