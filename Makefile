# Everything that is done to sitq. `make` lists the commands.
# The environment lives in .venv and is made when it is needed, with uv where there is one and with pip otherwise.

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
TIME ?= 1800
SEED ?=
STORES ?= sqlite,postgres,redis

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PACKAGE := $(VENV)/.package
TOOLS := $(VENV)/.tools
UV := $(shell command -v uv 2>/dev/null)

# Nothing outside of this folder is touched.
TEMPORARY := $(CURDIR)/.cache/tmp
$(shell mkdir -p '$(TEMPORARY)')
export TMPDIR := $(TEMPORARY)
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
# Tests start hundreds of processes: what they import is compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE
# mkdocs-material announces its successor on every run.
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test simulate storm crash recovery stops conformance outage damage bloat sabotage check bench docs \
	docs-serve format clean format-check lint types imports spelling coverage

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(PACKAGE) ## Enqueue tasks into a SQLite file, run them in worker processes, print the results
	@$(PY) examples/demo/run.py $(ARGS)

test: $(TOOLS) ## Run the tests (ARGS="tests/unit -k name" for some of them)
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

simulate: $(TOOLS) ## Simulate fleets on bad days (ARGS="--seeds 0:5000", ARGS="--seed 17" to replay one)
	@$(PY) tests/simulation $(ARGS)

sabotage: $(TOOLS) ## Take away one line of safety at a time, and see which test notices (ARGS="fence" for some)
	@$(PY) tests/sabotage $(ARGS)

check: format-check lint types imports spelling docs test ## Run everything that a change must pass

bench: $(PACKAGE) ## Measure the speed (ARGS="--help" lists the choices)
	@$(PY) -m bench $(ARGS)

storm: $(TOOLS) ## Let storms rage for half an hour, then judge what happened (TIME=60 SEED=7 STORES=redis ARGS="--kills=500")
	@nice $(PY) -m sitq.testing.storm storm --store=$(STORES) --time=$(TIME) $(if $(SEED),--seed=$(SEED)) $(ARGS)
	@$(MAKE) --no-print-directory crash ARGS=

crash: $(PACKAGE) ## Cut the power at 20,000 moments, and see what SQLite's disk holds (SEED=7 ARGS="--images=500")
	@nice $(PY) tests/crash --images=20000 $(if $(SEED),--seed=$(SEED)) $(ARGS)
	@nice $(PY) tests/crash --images=4000 --synchronous=NORMAL $(if $(SEED),--seed=$(SEED)) $(ARGS)

recovery: $(TOOLS) ## Measure how soon tasks of dead workers start again, and that no others are lost (STORES=redis)
	@$(PY) -m sitq.testing.storm recovery --store=$(STORES) --kills=200 $(ARGS)
	@$(PY) -m sitq.testing.storm supervised --store=$(STORES) --kills=50 $(ARGS)
	@$(PY) -m sitq.testing.storm zombies --store=$(STORES) --tasks=1200 $(ARGS)
	@$(PY) -m sitq.testing.storm load --store=$(STORES) --seconds=60 $(ARGS)

stops: $(TOOLS) ## Tell workers to end at 1,000 random instants on each store, and see that no task is lost (STORES=redis)
	@nice $(PY) -m sitq.testing.storm stops --store=$(STORES) --kills=1000 $(if $(SEED),--seed=$(SEED)) $(ARGS)

conformance: $(TOOLS) ## Run all promises of a store on Redis 6.2, Valkey, a cluster and SQLite with fewer syncs, not only some
	@SITQ_TEST_WHOLE=1 $(BIN)/pytest -n $(WORKERS) tests/conformance/test_redis_kinds.py tests/conformance/test_sqlite.py $(ARGS)

outage: $(TOOLS) ## Take the servers away for a minute, and see that no running task is started again (TIME=60)
	@SITQ_TEST_OUTAGE=$(if $(filter file,$(origin TIME)),60,$(TIME)) $(BIN)/pytest -n $(WORKERS) tests/faults/test_outage.py \
		tests/faults/test_network.py::test_each_swallowed_answer_breaks_a_connection_and_makes_no_task_twice $(ARGS)

damage: $(TOOLS) ## Put every wrong value into every column of a PostgreSQL store, and see that its queues go on
	@SITQ_TEST_DAMAGE=1 $(BIN)/pytest -n $(WORKERS) tests/regress/test_postgres_damage.py $(ARGS)

bloat: $(TOOLS) ## Let tasks pass through PostgreSQL for an hour, and see how large its tables become (TIME=600)
	@SITQ_TEST_BLOAT=$(if $(filter file,$(origin TIME)),3600,$(TIME)) $(BIN)/pytest tests/faults/test_postgres_bloat.py $(ARGS)

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
