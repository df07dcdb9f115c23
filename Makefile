# Everything that is done to sitq. `make` lists the commands.
# The environment lives in .venv and is made when it is needed, with uv where there is one and with pip otherwise.

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PACKAGE := $(VENV)/.package
TOOLS := $(VENV)/.tools
UV := $(shell command -v uv 2>/dev/null)

export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
# mkdocs-material announces its successor on every run.
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench docs docs-serve format clean \
	format-check lint types imports spelling coverage

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(PACKAGE) ## Enqueue tasks into a SQLite file, run them in worker processes, print the results
	@$(PY) examples/demo/run.py $(ARGS)

test: $(TOOLS) ## Run the tests (ARGS="tests/unit -k name" for some of them)
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

check: format-check lint types imports spelling docs test ## Run everything that a change must pass

bench: $(PACKAGE) ## Measure the speed (ARGS="--help" lists the choices)
	@$(PY) -m bench $(ARGS)

docs: $(TOOLS) ## Build the documentation into site/
	@$(BIN)/mkdocs build --strict

docs-serve: $(TOOLS) ## Serve the documentation on this machine
	@$(BIN)/mkdocs serve

format: $(TOOLS) ## Format the code and apply the fixes that are safe
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

format-check: $(TOOLS) ## Check the format
	@$(BIN)/ruff format --check .

lint: $(TOOLS) ## Check the code against ruff's rules
	@$(BIN)/ruff check .

types: $(TOOLS) ## Check the types with mypy and pyright, both strict
	@$(BIN)/mypy src $(wildcard tests/typing)
	@$(BIN)/pyright src $(wildcard tests/typing)

imports: $(TOOLS) ## Check the direction of the imports
	@$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

spelling: $(TOOLS) ## Check the spelling
	@$(BIN)/codespell

coverage: $(TOOLS) ## Run the tests and report the branches that none of them takes
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

clean: ## Remove the environment and everything that was built
	@rm -rf $(VENV) .cache site build dist
	@find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(PACKAGE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"sitq needs Python 3.11 or newer, this is {sys.version.split()[0]}; name one: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
ifdef UV
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(PY) --editable .
else
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable .
endif
	@touch $@

$(TOOLS): $(PACKAGE)
ifdef UV
	@$(UV) pip install --quiet --python $(PY) --group dev
else
	@# Dependency groups came with pip 25.1.
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(PY) -m pip install --quiet --disable-pip-version-check --group dev
endif
	@touch $@
