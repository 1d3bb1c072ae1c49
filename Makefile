# Everything sets itself up: a virtual environment here, packages from the package index, the Collector in a cache.
# Variables: PYTHON (the interpreter to build on, 3.10 or newer), OTELCOL (a Collector of your own for the demo).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo collector test test-long test-backends bench lint format clean

help: ## What there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## From OpenAI calls to a bill by organization, subscriber and credential, on this machine alone.
	@$(BIN)/openai-metering demo

collector: ## Build the pinned OpenTelemetry Collector, once; it stays in a cache outside of this folder.
	@$(PYTHON) collector-config/distribution/build.py

test: $(VENV)/.dev collector ## All tests: every SDK and Python version, and the pipeline on the real Collector.
	@$(BIN)/nox

test-long: $(VENV)/.dev collector ## The tests at their full sizes.
	@OPENAI_METERING_TEST_SIZE=full $(BIN)/nox

test-backends: $(VENV)/.dev collector ## The pipeline with real Kafka, metric, trace and SQL stores; needs Java 17 and Maven.
	@$(BIN)/nox -s backends

bench: $(VENV)/.dev ## What a metered call costs, beside the bare SDK.
	@$(BIN)/python benchmarks/overhead.py

lint: $(VENV)/.dev ## Types, style and format.
	@$(BIN)/nox -s lint

format: $(VENV)/.dev ## Format the code.
	@$(BIN)/ruff check --fix-only -q . && $(BIN)/ruff format -q .

clean: ## Remove what the targets above made in this folder.
	rm -rf $(VENV) .nox openai-metering-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there: name a Python 3.10 or newer with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("openai-metering needs Python 3.10 or newer, $(PYTHON) is %d.%d: name another one with make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@echo "Installing openai-metering and what the demo needs into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@echo "Installing openai-metering and its development tools into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.demo
