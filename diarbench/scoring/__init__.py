"""Scores from turns: rules, error times and where they lie, the sweep that finds them, what differences are worth.

Knows nothing of files or systems.
"""

from diarbench.scoring.detail import FileScore, JaccardErrors, SpeakerScore, detail_recordings
from diarbench.scoring.purity import ClusterQuality, cluster_quality
from diarbench.scoring.rules import FAIR, FORGIVING, FULL, RULES, ErrorTimes, ScoringRule, find_rule
from diarbench.scoring.spans import ErrorSpan, Marked, UnscoredSpan, mark_errors
from diarbench.scoring.sweep import Pair, score_recording, score_recordings

__all__ = [
    "FAIR",
    "FORGIVING",
    "FULL",
    "RULES",
    "ClusterQuality",
    "ErrorSpan",
    "ErrorTimes",
    "FileScore",
    "JaccardErrors",
    "Marked",
    "Pair",
    "ScoringRule",
    "SpeakerScore",
    "UnscoredSpan",
    "cluster_quality",
    "detail_recordings",
    "find_rule",
    "mark_errors",
    "score_recording",
    "score_recordings",
]
