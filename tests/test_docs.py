"""README and docs run: each page is a script in a folder of its own, read from top to bottom.

A block whose first line is a comment with a path is written there; other `python` and `bash` blocks are run. Blocks
marked `text`, `json` or `console` show something. Lines in EXEMPT are checked elsewhere or need what a test can't have.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
SHOWN = {"text", "json", "console"}

# Each would install or benchmark for minutes. This list may only shrink.
EXEMPT = {"make demo", "make test", "make check", "make fix", "make constraints", "make bench"}


@pytest.fixture(scope="module")
def pages(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future[str]]]:
    """Those that were asked for, as many at once as there are processors: mostly they wait for processes to start."""
    wanted = [item.callspec.params["page"] for item in request.session.items if item.name.startswith("test_page_runs[")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {page: pool.submit(run_page, page, tmp_path_factory.mktemp(page.stem)) for page in wanted}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page: Path, pages: dict[Path, Future[str]]):
    if problem := pages[page].result():
        pytest.fail(problem, pytrace=False)


def run_page(page: Path, folder: Path) -> str:
    """What is wrong with it; nothing where all of it runs."""
    environment = {
        **{
            name: value for name, value in os.environ.items() if name != "DIARBENCH_DATA"
        },  # pages have data of their own
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    for kind, text in BLOCK.findall(page.read_text()):
        if kind in SHOWN:
            continue
        if kind not in {"bash", "python", "toml"}:
            return f"{page.name}: a block is marked {kind!r}"
        if path := FILE.match(text):
            target = folder / path[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            continue
        if kind == "toml":
            return f"{page.name}: a TOML block names no file: {text[:60]}"
        if kind == "bash":
            text = "\n".join(line for line in text.splitlines() if line.split("#")[0].strip() not in EXEMPT)
        command = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{page.name}:\n{text}\n{done.stdout}\n{done.stderr}"
    return ""


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"
