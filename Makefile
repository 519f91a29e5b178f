# Two commands matter: `make demo` and `make test`. Each sets everything up first.
#
#   PYTHON=python3.12            another Python, 3.11 to 3.13
#   PEER=~/AdvSemiSeg            a clone of the published implementation, for the benchmarks
#   RESULTS=somewhere            the folder for what make bench-gpu prints, else bench-gpu/
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                                a smaller PyTorch for Linux machines without a GPU

PYTHON ?= python3
TORCH_INDEX ?=
PEER ?=
RESULTS ?= bench-gpu
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test test-gpu chaos check docs bench bench-gpu gpu peer clean

help:
	@echo "make demo    set up and run a sweep end to end on a small dataset: about eight minutes"
	@echo "make test    set up and run all tests"
	@echo "make test-gpu  the tests that need a GPU, with PYTHON's own packages: nothing is installed"
	@echo "make chaos   set up and run the kills and storms that are too many for make test: about forty minutes"
	@echo "make check   set up and run linter, format check, type check and the layer test"
	@echo "make docs    set up, write the pages that are made from the code, and build a site of README.md and docs/"
	@echo "make bench PEER=~/AdvSemiSeg      set up and run all benchmarks: about an hour on two cores"
	@echo "make bench-gpu PEER=~/AdvSemiSeg  the benchmarks of a GPU, with PYTHON's own packages: nothing is installed"
	@echo "make clean   end the local services and remove the environment; runs and models in .advseg/ stay"

setup: $(VENV)/.ready

demo: setup
	@$(BIN)/python -m advseg.jobs.demo

# Three processes keep two cores busy: one has the tests that share a cluster, which mostly wait, and one at first those that
# start servers of their own. On more threads than one each would only be in the others' way.
test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder

# On a machine where only PyTorch and a few others are installed, whose warnings are not ours.
test-gpu: gpu
	@PYTHONPATH=benchmarks $(PYTHON) -m pytest -p source --noconftest -W default -m gpu \
		$$(grep --recursive --files-with-matches --include 'test_*.py' 'mark\.gpu' tests)

chaos: setup
	@$(BIN)/python -m pytest -m chaos

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/python -m pytest --quiet tests/test_layers.py

docs: setup
	@$(BIN)/python docs/generate.py
	@$(BIN)/python docs/build_site.py

bench: peer setup
	@for program in "step $(PEER)" "input $(PEER)" "input --ahead 2" loop compact "compact --threads 2" evaluation workers tracking startup ledger slots cluster; do \
		echo "== $$program" && set -- $$program && name=$$1 && shift && $(BIN)/python benchmarks/$$name.py "$$@" || exit; \
	done

# Each prints as it goes: what a run that is cut has told is there, on the terminal and in RESULTS.
bench-gpu: SHELL := /bin/bash
bench-gpu: gpu peer
	@mkdir -p $(RESULTS)
	@set -o pipefail; for program in "step $(PEER)" "loop $(PEER)" "evaluation --network deeplab_v2_resnet101"; do \
		echo "== $$program" && set -- $$program && name=$$1 && shift \
			&& $(PYTHON) -u benchmarks/$$name.py "$$@" --device cuda 2>&1 | tee $(RESULTS)/$$name.txt || exit; \
	done

gpu:
	@$(PYTHON) -c "import torch; assert torch.cuda.is_available()" 2>/dev/null \
		|| { echo "error: $(PYTHON) has no PyTorch that sees a GPU: name one that has, make $(MAKECMDGOALS) PYTHON=…"; exit 2; }

peer:
	@test -f "$(PEER)/train.py" || { echo "error: PEER is '$(PEER)', but must be a clone of the published implementation:" \
		"git clone https://github.com/hfslyc/AdvSemiSeg, then make $(MAKECMDGOALS) PEER=AdvSemiSeg"; exit 2; }

clean:
	@if [ -x $(BIN)/advseg ]; then $(BIN)/advseg down; fi
	rm -rf $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null \
		|| { echo "error: $(PYTHON) is missing: install Python 3.11 to 3.13, or name one: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "error: $(PYTHON) is $$($(PYTHON) -V), but 3.11 to 3.13 is needed: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: $(PYTHON) cannot make environments: install its venv package (Debian: python3-venv)"; exit 2; }
	@echo "making $(VENV) and installing about 3 GB of packages: 2 to 10 minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[platform,postgresql,onnx,hub,transformers,dev]' \
		|| { echo "error: the packages could not be installed, see above; make goes on from here when run again"; exit 2; }
	@touch $@
