# One short command per verb; what runs here is what runs in CI.
# Needs: make, Python 3.11 or newer, and access to the package registries.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup test check lint types format demo chaos bench lock lock-jars clean

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with everything the product and its tests need

# pip comes last when an environment is made: its presence tells that the rest is there.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "error: Python 3.11 or newer is needed, and '$(PYTHON)' is not one;" \
	         "name it with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' has no venv module;" \
	         "on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Every download is checked against the hashes in the lock; the product itself is linked in
# place with the locked build tool, so nothing unlocked is fetched.
$(STAMP): requirements-dev.lock pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation --editable .
	@touch $@

test: check ## Lint, types, and every test, the live ones included (ARGS="-k join" narrows)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: lint types

lint: $(STAMP) ## Ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Mypy, strict
	$(BIN)/mypy

format: $(STAMP) ## Let ruff repair and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(STAMP) ## The whole system on real data (ARGS="--json --seconds 60")
	$(BIN)/ensemble demo $(ARGS)

chaos: $(STAMP) ## Every kind of fault for ten minutes, and one table (ARGS="--seconds 60 --seed 7")
	$(BIN)/python -m chaos storm $(ARGS)

bench: $(STAMP) ## Every benchmark; figures are printed, never stored
	@set -e; for file in benchmarks/[!_]*.py; do echo "== $$file"; $(BIN)/python -m "benchmarks.$$(basename $$file .py)"; done

# The lock files carry versions and hashes only: no registry address and no path.
# LOCK_ARGS=--upgrade moves every pin to the newest version.
LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
    --generate-hashes --no-annotate --no-emit-find-links --no-emit-index-url \
    --custom-compile-command "make lock" --quiet $(LOCK_ARGS)

lock: | $(BIN)/pip ## Write requirements.lock and requirements-dev.lock from pyproject.toml
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements-dev.lock
	$(LOCK) --extra embedded --extra report --extra onnx --extra compile --extra remote \
	    --group build --group dev --output-file requirements-dev.lock
	$(LOCK) --extra onnx --extra remote --group build --constraint requirements-dev.lock \
	    --output-file requirements.lock

lock-jars: $(STAMP) ## Write streams/embedded/kafka_jars.lock, the hashes of Kafka's jars
	$(BIN)/python -c 'from streams.embedded.jars import write_lock; write_lock()'

clean: ## Remove what was built; the environment too
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
