"""diarbench: compare speaker diarization systems, their accuracy and what they cost."""

from diarbench.measure.stages import stage
from diarbench.types import Audio, Recording, Turns

__version__ = "0.1.0"
__all__ = ["Audio", "Recording", "Turns", "stage"]
