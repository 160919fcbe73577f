"""What a run costs: stage times, counts, the machine's fingerprint and how busy it is."""

from diarbench.measure.networks import Network
from diarbench.measure.stages import stage

__all__ = ["Network", "stage"]
