"""What is loaded when: listing must not wait for torch, nor run anybody's adapter. (Who may import whom is in
pyproject.toml, for import-linter.)"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import diarbench

HEAVY = {
    "torch", "torchaudio", "transformers", "scipy", "sklearn", "pandas", "pyannote", "altair", "soundfile", "soxr",
    "jinja2", "vl_convert", "matplotlib",
}  # fmt: skip
PACKAGE = Path(diarbench.__file__).parent


def loaded_by(code: str, folder: Path) -> set[str]:
    """Top-level modules in memory once `code` has run in a process of its own."""
    program = (
        f"import sys\n{code}\nimport json; print('\\n' + json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def called(*words: str) -> str:
    """Code that calls the command line and ends well where it does."""
    return f"""
sys.argv = ['diarbench', *{words!r}]
from diarbench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.fixture
def cards_here(cards) -> Path:
    """A working folder with a system whose adapter must not run."""
    cards.system("fam/trap", 'title = "Trap"\nadapter = "./adapter.py:System"\n')
    (cards.path / "systems" / "fam" / "adapter.py").write_text("raise RuntimeError('an adapter was imported')\n")
    return cards.path


@pytest.mark.parametrize(
    "code",
    [
        "import diarbench",
        "import diarbench.cli",
        called("--help"),
        called("--version"),
        called("list"),
        called("list", "systems", "--format", "json"),
        called("run", "--help"),
    ],
)
def test_light_commands_load_nothing_heavy(cards_here, code):
    loaded = loaded_by(code, cards_here)
    assert "diarbench" in loaded
    assert not loaded & HEAVY


def test_importing_diarbench_loads_next_to_nothing(tmp_path):
    assert not loaded_by("import diarbench", tmp_path) & (HEAVY | {"pydantic", "typer", "rich"})


def test_the_trap_is_listed(cards_here):
    code = called("list", "systems", "--format", "json")
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, cwd=cards_here)
    assert "trap" in {row["name"] for row in json.loads(done.stdout)["systems"]}


def test_scoring_and_rendering_need_no_torch(tmp_path):
    loaded = loaded_by("import diarbench.scoring, diarbench.board, diarbench.report, diarbench.store", tmp_path)
    assert not loaded & {"torch", "torchaudio", "transformers", "pyannote", "sklearn"}


def test_the_public_names_are_exactly_these():
    assert sorted(diarbench.__all__) == ["Audio", "Recording", "Turns", "score", "stage"]
    assert all(getattr(diarbench, name) is not None for name in diarbench.__all__)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_are_short_and_say_what_they_own(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 600
    assert ast.get_docstring(ast.parse(text)) or not text.strip()
