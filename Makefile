# Every task, by `make`. The first use of any of them makes .venv from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SECONDS ?= 300
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the virtual environment with the locked dependencies

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Eventfleet needs Python 3.11 or newer: run 'make PYTHON=python3.11 …'"; exit 1; }
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make a virtual environment: install the venv module of your Python and try again"; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock || { echo "Could not install the locked dependencies: check the network and the free space, then run 'make setup' again"; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

tools: ## install what tests need besides Python, where it is missing: redis-server and chromium (Debian, as root)
	@.ci/tools

demo: $(STAMP) ## start a local fleet, drive orders through it, recount:  make demo ARGS="--orders 5000 --json demo.json"
	@$(BIN)/fleet demo $(ARGS)

chaos: $(STAMP) ## break everything around a fleet of three brokers:  make chaos ARGS="--seed 7 --seconds 120 --json chaos.json"
	@$(BIN)/fleet chaos $(ARGS)

test: $(STAMP) ## every test of the everyday suite, against a real Kafka that it starts
	@.ci/tools || echo "Going on without: the tests that need it will fail." >&2
	@$(BIN)/python -m pytest -m "not long" $(ARGS)

test-all: $(STAMP) ## the everyday suite and what takes long: chaos, fuzzing, rebuilding, every safeguard switched off
	@.ci/tools || echo "Going on without: the tests that need it will fail." >&2
	@$(BIN)/python -m pytest $(ARGS)

golden: $(STAMP) ## write the golden files of new messages and versions, to look at and commit
	@$(BIN)/python -m tests.golden

fuzz: $(STAMP) ## fuzz every HTTP route of a real worker with a new seed:  make fuzz SECONDS=600 SEED=7
	@FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(or $(SEED),$(shell date +%s)) $(BIN)/python -m pytest -q -s --timeout 0 tests/integration/test_http_fuzz.py

SEEDS ?= 1000
FIRST ?= 0
simulate: $(STAMP) ## play seeds of the simulated fleet under faults:  make simulate SEEDS=100000 FIRST=0
	@$(BIN)/python -m simulation --seeds $(SEEDS) --first $(FIRST) $(ARGS)

mutants: $(STAMP) ## switch the engine's safeguards off, one at a time, and see the simulation notice
	@$(BIN)/python -m simulation.mutation $(ARGS)

check: $(STAMP) ## format, lint, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## let ruff mend what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure:  make bench ARGS="--peers us,floor --workloads W1 --events 300000 --json b.jsonl"
	@$(BIN)/python -m bench $(ARGS)

failover: $(STAMP) ## measure how long partitions stop when workers are killed, leave, join or restart
	@$(BIN)/python -m bench.failover $(ARGS)

folds: $(STAMP) ## measure what one event costs each agent that reads orders, without Kafka
	@$(BIN)/python -m bench.folds $(ARGS)

recovery: $(STAMP) ## measure how fast a worker that has lost its disk restores its rows
	@$(BIN)/python -m bench.recovery $(ARGS)

overload: $(STAMP) ## offer ten times what the fleet can do for a minute: answers, memory, draining
	@$(BIN)/python -m bench.overload $(ARGS)

soak: $(STAMP) ## half an hour of steady orders: memory, file handles and latency must stay flat
	@$(BIN)/python -m bench.soak $(ARGS)

LOCK := $(BIN)/uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

lock: $(STAMP) ## resolve the dependencies anew into requirements.lock and, for the image, requirements-runtime.lock
	@$(BIN)/python -m pip install -q uv
	@$(LOCK) --extra dev -o requirements.lock
	@$(LOCK) -c requirements.lock -o requirements-runtime.lock

clean: ## remove the virtual environment, the local fleet's data and every cache
	rm -rf $(VENV) .fleet build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
