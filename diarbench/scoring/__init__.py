"""Scores from turns: rules, error times, and the sweep that computes them. Knows nothing of files or systems."""

from diarbench.scoring.rules import FAIR, FORGIVING, FULL, RULES, ErrorTimes, ScoringRule, find_rule
from diarbench.scoring.sweep import score_recording

__all__ = ["FAIR", "FORGIVING", "FULL", "RULES", "ErrorTimes", "ScoringRule", "find_rule", "score_recording"]
