from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers of these tests: boards.py and pages.py

import boards
from pages import Page, read_page

from diarbench.leaderboard import Leaderboard
from diarbench.report import render_html


@pytest.fixture(scope="session")
def realistic() -> Leaderboard:
    return boards.realistic()


@pytest.fixture(scope="session")
def measured() -> Leaderboard:
    return boards.measured()


@pytest.fixture(scope="session")
def hostile() -> Leaderboard:
    return boards.hostile()


@pytest.fixture(scope="session")
def page(realistic: Leaderboard) -> Page:
    return read_page(render_html(realistic, generated="4 May 2026"))
