"""diarbench: compare speaker diarization systems, their accuracy and what they cost."""

from typing import TYPE_CHECKING, Any

from diarbench.measure.stages import stage
from diarbench.types import Audio, Recording, Turns

if TYPE_CHECKING:
    from diarbench.api import score

__version__ = "0.1.0"
__all__ = ["Audio", "Recording", "Turns", "score", "stage"]


def __getattr__(name: str) -> Any:
    """`score`, once somebody asks for it: nobody else waits for the scorer."""
    if name == "score":
        from importlib import import_module

        globals()["score"] = function = import_module("diarbench.api").score
        return function
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
