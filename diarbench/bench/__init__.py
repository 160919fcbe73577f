"""Measuring sessions: systems timed against each other in one go, so that a noisy machine's drift cancels."""

from diarbench.bench.plan import Wanted
from diarbench.bench.session import measure

__all__ = ["Wanted", "measure"]
