"""What a run costs: stage times, the machine's fingerprint, parameters."""

from diarbench.measure.stages import stage

__all__ = ["stage"]
