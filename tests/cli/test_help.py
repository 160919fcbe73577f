"""What `--help` lists: every verb with a line that is whole in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from diarbench.cli import app


def groups(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """What has verbs of its own: how it is called, and the verbs."""
    verbs = getattr(command, "commands", None)
    if verbs:
        yield words, list(verbs)
        for name, verb in verbs.items():
            yield from groups(verb, *words, name)


GROUPS = dict(groups(typer.main.get_command(app)))


def test_the_groups_are_found():
    assert set(GROUPS) == {(), ("data",), ("new",)}


@pytest.mark.parametrize("words", GROUPS, ids=lambda words: " ".join(words) or "diarbench")
def test_no_verb_is_described_by_half_a_sentence(diarbench, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    answer = diarbench(*words, "--help")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.split("Commands:\n")[1].strip().splitlines()
    assert [line.split()[0] for line in lines] == GROUPS[words]  # one line each
    for line in lines:
        assert line.endswith("."), line
        assert not line.endswith("..."), line
