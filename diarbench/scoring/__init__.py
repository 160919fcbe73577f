"""Scores from turns: rules, error times and where they lie, the sweep that finds them, what differences are worth.

Knows nothing of files or systems.
"""

from diarbench.scoring.detail import FileScore, SpeakerScore, detail_recordings
from diarbench.scoring.purity import ClusterQuality, cluster_quality
from diarbench.scoring.rules import FAIR, FORGIVING, FULL, RULES, ErrorTimes, JaccardErrors, ScoringRule, parse_rule
from diarbench.scoring.spans import ErrorSpan, Marked, UnscoredSpan, mark_errors
from diarbench.scoring.sweep import Pair, RecordingScore, score_everything, score_recording, score_recordings

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
    "RecordingScore",
    "ScoringRule",
    "SpeakerScore",
    "UnscoredSpan",
    "cluster_quality",
    "detail_recordings",
    "mark_errors",
    "parse_rule",
    "score_everything",
    "score_recording",
    "score_recordings",
]
