# Two commands are enough: `make film` films the first story, `make test` proves that all of it works.
PYTHON ?= python3
VENV   ?= .venv
STORY  ?= examples/the-fox-and-the-cat.txt
OUT    ?= films/the-fox-and-the-cat

WORKERS ?= 2
# Without torch: importing it alone takes half of a slow machine's minute.
FAST ?= tests/agents tests/storage tests/prompts

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

export OMP_WAIT_POLICY := PASSIVE
unexport PYTHONDONTWRITEBYTECODE  # tests start hundreds of processes: each would compile the whole checkout anew

.DEFAULT_GOAL := help
.PHONY: help setup film test test-fast check format docs clean

help:
	@echo "make film       install what filming needs, film the first story, say where the film and its report are"
	@echo "make test       install what tests need and run all of them"
	@echo "make test-fast  what a minute is enough for: the quick tests of agents, storage and prompts"
	@echo "make check      ruff, mypy, pyright, and the test over who imports whom"
	@echo "make format     put the code in order"
	@echo "make docs       write the commands' help into docs/usage.md"
	@echo "make clean      remove $(VENV)"
	@echo "PYTHON=python3.12 make film   chooses the interpreter (3.11 or newer)"

setup: $(VENV)/.ready-to-film

$(VENV)/.ready-to-film: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fabula needs Python 3.11 or newer, $(PYTHON) is `$(PYTHON) --version 2>&1`; try: make film PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@echo "Installing into $(VENV); the first time this takes a few minutes."
	$(PIP) install --editable .
	@touch $@

$(VENV)/.ready-to-test: pyproject.toml $(VENV)/.ready-to-film
	$(PIP) install --editable '.[dev]'
	@touch $@

film: $(VENV)/.ready-to-film
	@$(BIN)/python main.py run $(STORY) --out $(OUT); code=$$?; \
	if [ $$code -ne 0 ] && [ $$code -ne 3 ]; then exit $$code; fi

test: $(VENV)/.ready-to-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: $(VENV)/.ready-to-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(FAST)

check: $(VENV)/.ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest tests/test_architecture.py

format: $(VENV)/.ready-to-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.ready-to-test
	$(BIN)/python -m pytest tests/test_docs.py -k todays --write-docs

clean:
	rm -rf $(VENV)
