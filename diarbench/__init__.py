"""diarbench: compare speaker diarization systems, their accuracy and what they cost."""

__version__ = "0.1.0"
