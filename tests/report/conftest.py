from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers of these tests: boards.py, pages.py, visits.py

import boards
from pages import Page, read_page
from visits import ARGUMENTS, CHROMIUM

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()
