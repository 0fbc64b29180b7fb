# make demo  - environment, then the main job on the built-in digits
# make test  - environment with the test extra, then pytest
# make docs - the documentation as a site in site/, its links, figures and snippets checked
# make figures - the figures that the package quotes, from the studies' results; checks the pages'
# make floors - docs/internals.md and its picture, from the imports
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE
JOBS ?= 2

.PHONY: demo test lint docs figures floors clean
demo: $(VENV)/.genkt
	$(BIN)/genkt transfer

test: $(VENV)/.genkt-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.genkt-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/mypy tools

docs: $(VENV)/.genkt-docs
	$(BIN)/python tools/figures.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python tools/snippets.py

floors: $(VENV)/.genkt
	$(BIN)/python tools/floors.py --write docs/internals.md

figures: $(VENV)/.genkt
	$(BIN)/python tools/figures.py

$(VENV)/.genkt: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.genkt-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e ".[test]"
	touch $@ $(VENV)/.genkt

$(VENV)/.genkt-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e ".[dev]"
	touch $@ $(VENV)/.genkt $(VENV)/.genkt-test

$(VENV)/.genkt-docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e ".[docs]"
	touch $@ $(VENV)/.genkt

clean:
	rm -rf $(VENV) build dist site
