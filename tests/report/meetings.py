"""Small and large meetings as timelines, for the tests of their page."""

from __future__ import annotations

import random

from diarbench.report import Timeline, Timelines, make_timeline
from diarbench.scoring import FAIR, FULL, ScoringRule
from diarbench.types import Turns

REFERENCE = [(0, 6, "Ben"), (5, 9, "Anna"), (12, 15, "Ben"), (16, 19, "Cleo")]
FIRST = [(0, 6.5, "x"), (6.5, 9, "y"), (12, 15, "y"), (22, 23, "z")]
SECOND = [(1, 9, "Ben"), (12, 14, "Ben")]
REGION = ((0.0, 25.0),)


def small(rule: ScoringRule = FULL, recording: str = "talk") -> Timeline:
    """By `first`: missed at 5-6 and 16-19, confusion at 6.0-6.5 and 12-15, false alarm at 22-23 s."""
    answers = {"first": Turns.of(FIRST), "second": Turns.of(SECOND)}
    return make_timeline(recording, Turns.of(REFERENCE), REGION, answers, rule)


def page_of(*shown: Timeline, rule: ScoringRule = FULL, title: str = "Talks", **more: object) -> Timelines:
    systems = tuple(answer.system for answer in shown[0].answers) if shown else ("first",)
    facts = {"left_out": (), "chosen": "All recordings", **more}
    return Timelines(title, rule, rule.label, "uem", systems, shown, version="1.2", **facts)  # type: ignore[arg-type]


def long_meeting(systems: int = 3, hours: float = 2.0, rule: ScoringRule = FAIR) -> Timeline:
    """Eight people who talk all the time, heard with errors."""
    dice = random.Random(7)
    turns, time = [], 0.0
    while time < 3600 * hours:
        length = round(dice.expovariate(1 / 2.2) + 0.1, 3)
        turns.append((round(time, 3), round(time + length, 3), f"speaker {dice.randrange(8)}"))
        time += length * dice.choice((0.6, 0.9, 1.0, 1.2))
    hypotheses = {}
    for number in range(systems):
        heard = [
            (start + dice.uniform(0, 0.05), end + dice.uniform(0, 0.5), who if dice.random() < 0.9 else "someone")
            for start, end, who in turns
            if dice.random() < 0.9
        ]
        hypotheses[f"system-{number}"] = Turns.of(heard)
    return make_timeline("meeting", Turns.of(turns), ((0.0, 3600 * hours),), hypotheses, rule)
