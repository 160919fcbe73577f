"""Scores from turns: rules, error times, the sweep that computes them, and what differences are worth.

Knows nothing of files or systems.
"""

from diarbench.scoring.detail import FileScore, SpeakerScore, detail_recordings
from diarbench.scoring.purity import ClusterQuality, cluster_quality
from diarbench.scoring.rules import FAIR, FORGIVING, FULL, RULES, ErrorTimes, JaccardErrors, ScoringRule, parse_rule
from diarbench.scoring.sweep import Pair, RecordingScore, score_everything, score_recording, score_recordings

__all__ = [
    "FAIR",
    "FORGIVING",
    "FULL",
    "RULES",
    "ClusterQuality",
    "ErrorTimes",
    "FileScore",
    "JaccardErrors",
    "Pair",
    "RecordingScore",
    "ScoringRule",
    "SpeakerScore",
    "cluster_quality",
    "detail_recordings",
    "parse_rule",
    "score_everything",
    "score_recording",
    "score_recordings",
]
