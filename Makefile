# Everything runs inside .venv, which is made on first use: a Python of 3.11 or later, make and a compiler are enough.

PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# Worker processes of `make test`, a number or `logical` for one a core (at most eight: each takes about a gigabyte),
# with one thread each: on a few cores torch's own threads only get in each other's way.
TEST_WORKERS ?= logical
PYTEST_ARGS ?=
CARDS_ARGS ?=
HUB_PORT ?= 8080

export HF_HUB_DISABLE_XET = 1
export HF_HUB_DISABLE_TELEMETRY = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo demo-lr3 cards hub test lint format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp is the whole of the set-up: while it is newer than both files, nothing is installed again.
# torch goes first and alone, because it is the large download: when what follows fails, a second try starts after it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "hf_scorevi needs Python 3.11 or later, but '$(PYTHON3)' is $$($(PYTHON3) --version 2>&1)."; \
			echo "Install one and name it: make PYTHON3=/path/to/python3.11 ..."; exit 1; } >&2; \
		$(PYTHON3) -m venv --clear $(VENV); }
	$(PYTHON) -m pip install -c constraints.txt torch
	$(PYTHON) -m pip install -c constraints.txt -e ".[dev,demo,evaluate]"
	@touch $@

install: $(INSTALLED) ## make .venv with the pinned versions and the library, editable

demo: $(INSTALLED) ## run the demonstration into outputs/demo
	$(PYTHON) examples/demo.py --output_dir outputs/demo

demo-lr3: $(INSTALLED) ## the demo at three times the learning rate, into outputs/demo-lr3
	$(PYTHON) examples/demo.py --learning_rate_scale 3 --output_dir outputs/demo-lr3

cards: $(INSTALLED) ## make the runs of model_cards/ and their cards (CARDS_ARGS="--data_dir ..." without the Hub)
	$(PYTHON) model_cards/make.py $(CARDS_ARGS)

hub: $(INSTALLED) ## serve a Hugging Face Hub on this machine, to try things on (Ctrl-C ends it)
	$(PYTHON) -m tests.hub_server --port $(HUB_PORT)

test: $(INSTALLED) ## run the tests (PYTEST_ARGS="-k ece" narrows them)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(TEST_WORKERS) --maxprocesses 8 --dist worksteal $(PYTEST_ARGS)

lint: $(INSTALLED) ## ruff, its formatter, mypy; changes nothing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: $(INSTALLED) ## put the code into shape
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

clean: ## remove caches and build products; .venv and outputs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
