# `make` lists what there is. Everything works from a fresh clone: each target sets up what it needs first.
PYTHON ?= python3
export PYTHON
VENV_PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup run demo test unit check chaos bench cortx-test demo-model clean setup-main setup-label-studio

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install everything into .venv and .venv-label-studio (about 3 minutes the first time, then nothing)
	@$(MAKE) --no-print-directory -j2 setup-main setup-label-studio

setup-main:
	@stack/setup.sh main

setup-label-studio:
	@stack/setup.sh label-studio

run: setup ## Start everything on this machine, in the foreground; Ctrl-C stops it
	@$(VENV_PYTHON) -m stack run

demo: setup ## Run the main job end to end on a stack of its own and check each step (demo-report.json)
	@$(VENV_PYTHON) -m demo

# Two processes: one begins with the tests end to end, which are a third of the time, the other takes the files in turn.
test: setup ## All tests: unit, integration, end to end with a real Label Studio
	@$(VENV_PYTHON) -m pytest -n 2 --no-loadscope-reorder tests/e2e tests/unit tests/integration

unit: setup-main ## The quick tests: no network, seconds
	@$(VENV_PYTHON) -m pytest -n 2 tests/unit

check: setup-main ## Lint, format, types, unit and integration tests
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check
	@$(VENV_PYTHON) -m mypy
	@$(VENV_PYTHON) -m pytest -n 2 tests/unit tests/integration

chaos: setup ## 2,000 changes by people and 30 faults, then an account of every one (SEED=… repeats a run; chaos-report.json)
	@$(VENV_PYTHON) -m chaos $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS)) $(if $(FAULTS),--faults $(FAULTS))

bench: setup ## Measure speed beside what one would use instead, as ratios (ONLY=part runs one part)
	@$(VENV_PYTHON) -m benchmarks $(ONLY)

cortx-test: setup-main ## The bucket client's tests on a real store: S3_TEST_ENDPOINT_URL=… S3_TEST_ACCESS_KEY=… S3_TEST_SECRET_KEY=…
	@$(VENV_PYTHON) -m pytest tests/cortx

demo-model: setup-main ## Train the demo model again (models/demo-shapes.pt), minutes on a CPU
	@$(VENV_PYTHON) -m demo.train_model

clean: ## Remove the virtual environments and caches; the stack's data in .run stays
	rm -rf .venv .venv-label-studio .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-report.json chaos-report.json
	find . -name __pycache__ -type d -not -path './.run/*' -prune -exec rm -rf {} +
