# Every target does its own set-up; only Python (3.11 or newer) and make must be installed.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
RUN := . $(VENV)/bin/activate &&
PEERS := .venv-peers
# For `make bench`: one or more areas, e.g. AREA="lake conversations".
AREA ?= lake
# For `make fuzz`: duration in seconds, and one kind of file (listed in `pixel_pipeline_tests/fuzz/target.py`) or, if empty, all.
SECONDS ?= 60
KIND ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-chat test test-deep lint ui bench bench-peers fuzz s3-down clean constraints

help: ## Show this help.
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install the project with all its tools.

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh scripts/environment.sh
	@PYTHON="$(PYTHON)" bash scripts/setup.sh

demo: $(STAMP) ## Run the whole pipeline: sample files to a trained checkpoint on S3 (3 to 6 minutes).
	@$(RUN) pixel demo

demo-chat: $(STAMP) ## Train LoRA experts on SmolLM2-135M, export them as a Mixtral, and chat with it (10 minutes).
	@$(RUN) pixel demo --chat

test: $(STAMP) lint ## Lint, type-check and test.
	@echo "==> tests"
	@$(RUN) python -m pytest $(PYTEST_ARGS)

test-deep: $(STAMP) ## Search longer: many random examples, long kill loops, peers (an hour).
	@$(RUN) python -m pytest -m "deep or hypothesis" --hypothesis-profile=deep --timeout 3600 $(PYTEST_ARGS)

lint: $(STAMP) ## Run ruff and mypy.
	@echo "==> ruff, mypy"
	@$(RUN) ruff check . && ruff format --check . && mypy

ui: $(STAMP) ## Open the Dagster webserver and daemon on loopback (port 3000, or PORT=…).
	@$(RUN) dagster dev --host 127.0.0.1 $(if $(PORT),--port $(PORT))

bench: $(STAMP) $(PEERS)/.installed ## Run benchmarks against the peers (AREA="lake conversations"; options in BENCH_ARGS, e.g. --json).
	@$(RUN) for area in $(AREA); do python -m benchmarks.$$area $(BENCH_ARGS) || exit; done

bench-peers: $(PEERS)/.installed ## Install the peers of `make bench` into .venv-peers.

$(PEERS)/.installed: benchmarks/peers.txt | $(STAMP)
	@echo "==> installing the peers into $(PEERS)"
	@$(VENV)/bin/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	@touch $@

fuzz: $(STAMP) ## Fuzz the conversion (SECONDS=60, KIND=csv); findings and corpus go to .fuzz.
	@$(RUN) python -c 'import atheris' 2>/dev/null || { echo "==> installing the fuzzer"; \
		python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'; }
	@mkdir -p .fuzz/corpus/$(KIND)
	@$(RUN) python -m pixel_pipeline_tests.fuzz $(KIND) -max_total_time=$(SECONDS) -artifact_prefix=.fuzz/ .fuzz/corpus/$(KIND)

s3-down: $(STAMP) ## Stop the embedded S3 server.
	@$(RUN) pixel s3 down

constraints: $(STAMP) ## Update constraints.txt from the installed packages.
	@$(RUN) python scripts/constraints.py

clean: ## Stop the embedded server and delete .pixel (the embedded lake with all its data), .venv and .venv-peers.
	@if [ -x $(VENV)/bin/pixel ]; then $(VENV)/bin/pixel s3 down; fi
	rm -rf .pixel $(VENV) $(PEERS)
