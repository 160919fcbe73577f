"""Run jobs: each system in a process of its own, results stored as they come."""

from diarbench.execute.parent import Failure, Outcome, Progress, execute, overhangs

__all__ = ["Failure", "Outcome", "Progress", "execute", "overhangs"]
