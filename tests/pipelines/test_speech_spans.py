"""Probabilities to speech: thresholds with hysteresis, gaps, short spans, padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.pipelines.vad import SpeechRules, speech_spans

PLAIN = SpeechRules(onset=0.5, offset=0.3, min_off=0.0, min_on=0.0, pad=0.0)


def spans(probabilities: list[float], rules: SpeechRules = PLAIN, duration: float | None = None) -> list[list[float]]:
    found = speech_spans(
        np.array(probabilities), rules, hop=1.0, duration=len(probabilities) if duration is None else duration
    )
    return [list(span) for span in found]


def test_hysteresis() -> None:
    assert spans([0.1, 0.2, 0.6, 0.4, 0.6, 0.4, 0.2, 0.1]) == [[2, 6]]
    assert spans([0.4, 0.4, 0.6, 0.2, 0.4, 0.4]) == [[2, 3]], "between the thresholds, silence stays silence"
    assert spans([0.9, 0.4, 0.4]) == [[0, 3]], "and speech stays speech, up to the end"


def test_thresholds_themselves_decide_nothing() -> None:
    assert spans([0.5, 0.5]) == []
    assert spans([0.6, 0.3, 0.3]) == [[0, 3]]


@pytest.mark.parametrize("probabilities", [[], [0.0], [0.1] * 9])
def test_no_speech(probabilities: list[float]) -> None:
    assert spans(probabilities) == []


def test_gaps_close_before_short_speech_is_dropped() -> None:
    rules = SpeechRules(onset=0.5, offset=0.5, min_off=2.0, min_on=3.0, pad=0.0)
    assert spans([0.9, 0, 0.9, 0, 0, 0.9, 0, 0, 0], rules) == [[0, 3]]


def test_padding_stays_in_the_recording_and_joins() -> None:
    rules = SpeechRules(onset=0.5, offset=0.5, min_off=0.0, min_on=0.0, pad=0.75)
    assert spans([0.9, 0, 0.9, 0, 0, 0, 0.9], rules, duration=6.8) == [[0, 3.75], [5.25, 6.8]]


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0, 1), st.floats(0, 1))
def test_as_a_loop_would_say(probabilities: list[float], one: float, other: float) -> None:
    rules = SpeechRules(onset=max(one, other), offset=min(one, other), min_off=0.0, min_on=0.0, pad=0.0)
    speaking, expected = False, []
    for probability in probabilities:
        speaking = probability > rules.onset or (speaking and probability >= rules.offset)
        expected.append(speaking)
    found = np.zeros(len(probabilities), dtype=bool)
    for start, end in spans(probabilities, rules):
        found[int(start) : int(end)] = True
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"onset": 0.3, "offset": 0.4}, "offset <= onset"),
        ({"onset": 1.2}, "onset <= 1"),
        ({"offset": -0.1}, "0 <= offset"),
        ({"pad": -1.0}, "pad is a time"),
        ({"min_off": -1.0}, "min_off is a time"),
    ],
)
def test_rules_that_can_not_be(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeechRules(**settings)
