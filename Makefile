# Everything on a fresh machine with Python 3.11 or newer and make: each target sets up what it needs in .venv.

PYTHON ?= python3
BIN    := .venv/bin

.PHONY: demo test bench check fix constraints clean

demo: .venv/.demo           ## benchmark the built-in systems and write runs/leaderboard.html
	$(BIN)/diarbench run demo

test: .venv/.dev            ## all tests
	$(BIN)/python -m pytest

bench: .venv/.bench         ## how fast scoring is, against others in the same run; one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks -q --benchmark-only
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/plot_growth.py docs/scoring-speed.svg

check: .venv/.dev           ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/.dev             ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: .venv/.dev     ## write down the exact versions in .venv
	$(BIN)/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools > constraints.txt

clean:                      ## remove what the targets above made, results in runs/ excepted
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "diarbench needs Python 3.11 or newer; say make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ .venv/.demo

# spyder is compiled from source; where that fails, its benchmarks are skipped.
.venv/.bench: .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps spy-der==0.4.1 || true
	touch $@
