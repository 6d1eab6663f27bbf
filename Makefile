# Every target does its own set-up; nothing has to be installed by hand but Python (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
RUN := . $(VENV)/bin/activate &&
PEERS := .venv-peers
# Of `make bench`: one or several of the areas there are, AREA="lake conversations".
AREA ?= lake
# Of `make fuzz`: how long, and one kind of file (`pixel_pipeline_tests/fuzz/target.py` lists them) or all.
SECONDS ?= 60
KIND ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-chat test lint ui bench bench-peers fuzz s3-down clean constraints

help: ## Show this list.
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install everything into it.

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh scripts/environment.sh
	@PYTHON="$(PYTHON)" bash scripts/setup.sh

demo: $(STAMP) ## Raw sample files to a trained checkpoint on S3.
	@$(RUN) pixel demo

demo-chat: $(STAMP) ## LoRA experts on SmolLM2-135M, exported as a Mixtral, and a conversation with it (10 minutes).
	@$(RUN) pixel demo --chat

test: $(STAMP) lint ## Lint, type check and test.
	@echo "==> tests"
	@$(RUN) python -m pytest $(PYTEST_ARGS)

lint: $(STAMP) ## Ruff and mypy.
	@echo "==> ruff, mypy"
	@$(RUN) ruff check . && ruff format --check . && mypy

ui: $(STAMP) ## Open the Dagster webserver and daemon on loopback (port 3000, or PORT=…).
	@$(RUN) dagster dev --host 127.0.0.1 $(if $(PORT),--port $(PORT))

bench: $(STAMP) $(PEERS)/.installed ## Measure beside the peers (AREA="lake conversations"; options in BENCH_ARGS, e.g. --json).
	@$(RUN) for area in $(AREA); do python -m benchmarks.$$area $(BENCH_ARGS) || exit; done

bench-peers: $(PEERS)/.installed ## Install what `make bench` measures against into .venv-peers.

$(PEERS)/.installed: benchmarks/peers.txt | $(STAMP)
	@echo "==> installing the peers into $(PEERS)"
	@$(VENV)/bin/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	@touch $@

fuzz: $(STAMP) ## Look for bytes that conversion does not stand (SECONDS=60, KIND=csv); findings and corpus in .fuzz.
	@$(RUN) python -c 'import atheris' 2>/dev/null || { echo "==> installing the fuzzer"; \
		python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'; }
	@mkdir -p .fuzz/corpus/$(KIND)
	@$(RUN) python -m pixel_pipeline_tests.fuzz $(KIND) -max_total_time=$(SECONDS) -artifact_prefix=.fuzz/ .fuzz/corpus/$(KIND)

s3-down: $(STAMP) ## Stop the embedded S3 server.
	@$(RUN) pixel s3 down

constraints: $(STAMP) ## Renew constraints.txt from what is installed.
	@$(RUN) python scripts/constraints.py

clean: ## Stop the embedded server and delete .pixel (the embedded lake with all its data), .venv and .venv-peers.
	@if [ -x $(VENV)/bin/pixel ]; then $(VENV)/bin/pixel s3 down; fi
	rm -rf .pixel $(VENV) $(PEERS)
