# Every command starts from a bare checkout: it makes .venv, installs what it needs once, and then only does its work.
# Fresh machine: Python >= 3.11 with its venv module, git and make; no root.

.DEFAULT_GOAL := help
.PHONY: help run test test-unit test-long test-clients test-walks bench proto protos-archive lint format lock clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --progress-bar off
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
# More than half of the time of a test is waiting: twice as many tests as there are processors keep these busy.
PROCESSES ?= $(shell $(BIN)/python -c "import os; print(min(2 * len(os.sched_getaffinity(0)), 8))")
# Without bytecode files every process of the tests would rewrite and compile all of their modules.
unexport PYTHONDONTWRITEBYTECODE
PYTEST = $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal
# Tests that need no process and no database. Those of other packages run much of the system.
UNIT := $(filter-out %_dispatcher.py %_operations.py %_outages.py %_session.py,$(wildcard $(addprefix tests/,base catalog \
	delivery/test_*.py events filters intake log management schemas test_language.py test_tiers.py transforms/mapping)))
LONG := $(wildcard tests/connectors/*/test_vendor.py) $(addprefix tests/,delivery/simulation delivery/test_operations.py e2e/crash e2e/test_any_body.py \
	e2e/test_headwater_to_headwater.py e2e/test_memory.py e2e/test_schemathesis.py e2e/test_worst_memory.py log/test_sqlite.py \
	log/jetstream/test_log.py processing/test_containment.py processing/test_lanes.py processing/test_stream.py \
	runs/exporting/test_export_kills.py schemas transforms/mapping)
# Hash mode, so that what arrives from whatever mirror is what was tried here.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-15s %s\n", $$1, $$2}'

run: $(RUN) ## Start the whole system in the foreground, on http://127.0.0.1:8080
	@exec $(BIN)/headwater serve

test: $(DEV) ## Run all tests, the real Envoy included, on free ports
	@$(PYTEST)

test-unit: $(DEV) ## Run tests that start no process, with fewer generated examples; under a minute
	@$(PYTEST) -m "not process" --hypothesis-profile quick $(UNIT)

test-long: $(DEV) ## Run the crash, simulation, memory and generated-input tests with more rounds; about an hour
	@HEADWATER_CRASH_ROUNDS=$${HEADWATER_CRASH_ROUNDS:-20} HEADWATER_BURST_SECONDS=$${HEADWATER_BURST_SECONDS:-30} \
	HEADWATER_EXAMPLES=$${HEADWATER_EXAMPLES:-1000} HEADWATER_ACCEPTANCE_EVENTS=$${HEADWATER_ACCEPTANCE_EVENTS:-20000} \
	HEADWATER_SCHEMATHESIS_EXAMPLES=$${HEADWATER_SCHEMATHESIS_EXAMPLES:-50} \
	HEADWATER_SIMULATION_SEEDS=$${HEADWATER_SIMULATION_SEEDS:-20000} HEADWATER_VENDOR_SEEDS=$${HEADWATER_VENDOR_SEEDS:-30} \
	HEADWATER_WORST_MAPPINGS=$${HEADWATER_WORST_MAPPINGS:-20} \
	$(PYTEST) --timeout 3600 --hypothesis-profile thorough $(LONG)

test-clients: $(DEV) ## Run the clients and SDKs of docs/ in every language that is installed; compiles for minutes
	@HEADWATER_CLIENTS=all $(BIN)/python -m pytest -rs tests/clients tests/sdks/test_compiled.py

test-walks: $(DEV) ## Follow the documentation in a fresh clone, as four kinds of users; some minutes
	@HEADWATER_WALKS=all $(BIN)/python -m pytest -rs tests/walks

bench: $(DEV) ## Run the benchmarks: ratios against baselines of the same run
	@$(BIN)/python -m bench

proto: $(DEV) ## Generate gen/ and the descriptor set from protos/
	@$(BIN)/python scripts/generate.py

protos-archive: $(BIN)/python ## Write dist/headwater-protos-VERSION.tar.gz: the protos and all that they import
	@$(BIN)/python scripts/archive_protos.py

lint: $(DEV) ## Check style, types, dependency rules, language and the protos
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/language.py
	@$(BIN)/python scripts/generate.py --lint

format: $(DEV) ## Put the code into shape
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: $(DEV) ## Pin the newest versions of what requirements/*.in name
	@$(PIP) uv
	@$(COMPILE) requirements/run.in -o requirements/run.txt
	@$(COMPILE) -c requirements/run.txt requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) --no-deps requirements/specifications.in -o requirements/specifications.txt

clean: ## Remove the environment and caches; data/ stays
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist

$(BIN)/python:
	@sh requirements/make-venv.sh $(VENV)

$(RUN): requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the server needs into $(VENV) (once, about a minute) ..."
	@$(PIP) -r requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUN) requirements/dev.txt requirements/specifications.txt
	@echo "Installing what tests and checks need into $(VENV) (once, about a minute) ..."
	@$(PIP) -r requirements/dev.txt
	@$(PIP) --no-deps --no-compile -r requirements/specifications.txt
	@touch $@
