# Every target works in a fresh clone: what it needs is set up on the first call, in .venv, and checked in a
# moment on later ones. Only relative paths here: the checkout's own path may hold spaces.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fire test-fresh lint types notebooks format bench lab dashboard mlflow lock clean distclean \
	set-up-base set-up-dev set-up-lab set-up-stack stack

ARGS ?=
BIN := .venv/bin
WORKERS ?= $(shell [ "$$(getconf _NPROCESSORS_ONLN)" -ge 2 ] && echo 2 || echo 0)
NBSTRIPOUT := $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill cell.metadata.papermill metadata.widgets"

help: ## Show this list
	@echo "GuardianFlow: make TARGET   (options for the tool behind a target: ARGS=\"…\", a certain Python: PYTHON=…)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

demo: set-up-base ## Train a model, promote, quantize, roll back; watch three sites, improve it
	@$(BIN)/guardianflow demo $(ARGS)

test: set-up-dev ## Run the tests, two at a time (ARGS="-k registry" for some of them, WORKERS=0 for one at a time)
	@PYTEST_XDIST_AUTO_NUM_WORKERS=$(WORKERS) $(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-fire: set-up-dev ## Run only the slow tests in their long form: crashes, kills, many processes at once
	@GUARDIANFLOW_FIRE=1 $(BIN)/pytest -m slow $(ARGS)

test-fresh: ## Try the start of a new machine: a clone, an empty HOME, all packages anew (ARGS=--shared-cache: uv's own)
	@sh tools/fresh.sh $(ARGS)

lint: set-up-dev ## Check style and layout with ruff, and that notebooks hold no output
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory notebooks

types: set-up-dev ## Check types with mypy, strict
	@$(BIN)/mypy

notebooks: set-up-dev ## Check that no notebook holds output
	@find notebooks -name .ipynb_checkpoints -prune -o -name '*.ipynb' -print0 | xargs -0 -r $(NBSTRIPOUT) --verify

format: set-up-dev ## Mend layout, imports and notebooks in place
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .
	@find notebooks -name .ipynb_checkpoints -prune -o -name '*.ipynb' -print0 | xargs -0 -r $(NBSTRIPOUT)

bench: set-up-dev ## Run the benchmarks; each prints its figure beside its peer's
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

lab: set-up-lab ## Open JupyterLab, on copies of the notebooks in guardianflow-work (ARGS="DIR" for a workspace of yours)
	@$(BIN)/guardianflow lab $(ARGS)

dashboard: set-up-lab ## Show the sites, alerts and advice as pages on http://127.0.0.1:8866 (ARGS="--port …")
	@$(BIN)/guardianflow dashboard $(ARGS)

stack: set-up-stack ## Run the team's stack without Docker: PostgreSQL, SeaweedFS, MLflow, the API, the pages (docs/DEPLOY.md)
	@$(BIN)/guardianflow stack init guardianflow-work && $(BIN)/guardianflow stack up guardianflow-work $(ARGS)

mlflow: set-up-base ## Browse runs and models in MLflow's pages on http://127.0.0.1:5000
	@uri="$$($(BIN)/python -c 'from guardianflow import Settings; print(Settings().mlflow_tracking_uri)')"; \
	case "$$uri" in \
	http*) echo "MLflow has a server already: $$uri" ;; \
	*) MLFLOW_BACKEND_STORE_URI="$$uri" $(BIN)/mlflow server --host 127.0.0.1 --port 5000 $(ARGS) ;; \
	esac

lock: ## Renew requirements/*.lock from pyproject.toml (ARGS=--upgrade takes the newest of everything)
	@sh tools/lock.sh $(ARGS)

setup: set-up-dev ## Set up .venv for work on the code, without running anything
	@echo "ready: .venv/bin/guardianflow --help"

clean: ## Remove caches and build results
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find guardianflow tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environment too: the next call sets it up afresh
	@rm -rf .venv .uv .setup.lock .setup.lock.d

set-up-base:
	@sh tools/setup.sh base

set-up-dev:
	@sh tools/setup.sh dev

set-up-lab:
	@sh tools/setup.sh lab

set-up-stack:
	@sh tools/setup.sh stack
