# make demo | test | docs | lint | install: each sets .venv up by itself, and again only when pyproject.toml or
# constraints.txt change.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= $(or $(shell command -v python3.11 2>/dev/null),$(shell command -v python3 2>/dev/null),python3)
VENV := .venv
BIN := $(VENV)/bin
PINS := pyproject.toml constraints.txt
# Test processes. Two fit 4 GB of memory.
JOBS ?= 2

# $(call install,extras,stamps): the package as an editable install; a larger set is also every smaller one.
define install
@echo "Installing popcat$(1) into $(VENV): some minutes the first time."
@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(1)'
@touch $(addprefix $(VENV)/.popcat-,$(2))
endef

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.popcat-full ## .venv with everything that tests and benchmarks need

.PHONY: demo
demo: $(VENV)/.popcat-base $(VENV)/.popcat-kernels ## 10,000 real galaxies to a probabilistic catalogue and a report in demo/
	$(BIN)/popcat demo -o demo

.PHONY: test
test: $(VENV)/.popcat-test $(VENV)/.popcat-moto $(VENV)/.popcat-kernels ## every test but the slow ones
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.PHONY: test-slow
test-slow: $(VENV)/.popcat-full $(VENV)/.popcat-moto $(VENV)/.popcat-kernels ## the slow tests: hours on two cores
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m slow

.PHONY: test-lake
test-lake: $(VENV)/.popcat-lake $(VENV)/.popcat-kernels ## the tests that need lsdb, deltalake, pyiceberg, DuckDB and Polars
	$(BIN)/python -m pytest tests/catalog/test_export.py tests/test_examples.py

.PHONY: test-rail
test-rail: $(VENV)/.popcat-rail $(VENV)/.popcat-kernels ## the tests that need qp and RAIL (pz-rail-base)
	$(BIN)/python -m pytest tests/catalog/test_qp_ensemble.py tests/test_rail.py

.PHONY: docs
docs: $(VENV)/.popcat-docs $(VENV)/.popcat-kernels ## the documentation site, its tutorials executed, in build/docs/
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m sphinx -E -W --keep-going -n -j $(JOBS) \
	  -b html -d build/docs-cache docs build/docs

.PHONY: dist
dist: $(VENV)/.popcat-test ## the wheel and the source distribution, in dist/
	rm -rf build/lib dist
	mkdir -p dist
	$(BIN)/python -c "import setuptools.build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"

.PHONY: lint
lint: $(VENV)/.popcat-test ## ruff, who may import what, and mypy
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

.PHONY: clean
clean: ## remove what make, tests and the demo wrote, .venv included
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# numba's cache of compiled kernels does not see a change in another file that a kernel is compiled from: those that
# use numba, and the galaxy model's, whose constants are compiled in.
KERNELS := $(wildcard popcat/forward/*.py) $(shell grep -rl numba popcat --include='*.py')
$(VENV)/.popcat-kernels: $(KERNELS) | $(BIN)/pip
	@find popcat -name '*.nb?' -delete
	@touch $@

$(VENV)/.popcat-base: $(PINS) | $(BIN)/pip
	$(call install,,base)

$(VENV)/.popcat-test: $(PINS) | $(BIN)/pip
	$(call install,[test],base test)

# The server of objects of tests/stores has requirements that clash with popcat's, and so an environment of its own.
$(VENV)/.popcat-moto: tests/stores/moto.txt | $(BIN)/pip
	@$(BIN)/python -m venv $(VENV)/moto
	@$(VENV)/moto/bin/python -m pip install --quiet --disable-pip-version-check -r tests/stores/moto.txt
	@touch $@

$(VENV)/.popcat-lake: $(PINS) | $(BIN)/pip
	$(call install,[test$(comma)lake],base test lake)

$(VENV)/.popcat-docs: $(PINS) | $(BIN)/pip
	$(call install,[docs],base docs)

$(VENV)/.popcat-rail: $(PINS) | $(BIN)/pip
	$(call install,[test$(comma)rail],base test rail)

$(VENV)/.popcat-full: $(PINS) | $(BIN)/pip
	$(call install,[test$(comma)bench],base test full)

comma := ,

# pip is the last thing that venv writes: where it is missing, the environment is missing or unfinished.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "popcat needs Python 3.11 or newer, got '$(PYTHON)': $$($(PYTHON) --version 2>&1);" \
	       "name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: on Debian or Ubuntu, apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
