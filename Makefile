# Two commands matter: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check setup clean help

help:
	@echo "make demo    set up, then run a sweep end to end on a small dataset (minutes)"
	@echo "make test    set up, then run all tests"
	@echo "make check   set up, then lint, format check, types and the layer test"
	@echo "make clean   end local services and remove the environment; .advseg/ with its runs stays"

demo: setup
	@$(BIN)/python -m advseg.jobs.demo

test: setup
	@$(BIN)/python -m pytest

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/python -m pytest -q tests/test_layers.py

setup: $(READY)

$(READY): pyproject.toml constraints.txt infra/setup.py
	@$(PYTHON) infra/setup.py $(VENV)

clean:
	@if [ -x $(BIN)/advseg ]; then $(BIN)/advseg down; fi
	rm -rf $(VENV)
