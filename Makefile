# make demo  - environment, then the main job on the built-in digits
# make test  - environment with the test extra, then pytest
# make figures - the figures that the package quotes, from the studies' results; checks the README's
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE
JOBS ?= 2

.PHONY: demo test lint figures clean
demo: $(VENV)/.genkt
	$(BIN)/genkt transfer

test: $(VENV)/.genkt-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) $(ARGS)

lint: $(VENV)/.genkt-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/mypy tools

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

clean:
	rm -rf $(VENV) build dist
