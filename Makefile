# OrderFlow Outbox: two commands need no preparation, `make demo` and `make test`.
# All set-up happens in .venv, with uv where it is installed, otherwise with venv and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

# uv brings certificates of its own; behind a company's proxy only the machine's are right.
export UV_SYSTEM_CERTS ?= 1

ifneq ($(UV),)
MAKE_VENV = $(UV) venv --quiet --no-python-downloads --allow-existing --python $(PYTHON) $(VENV)
INSTALL = $(UV) pip install --quiet --python $(BIN)/python
else
MAKE_VENV = $(PYTHON) -m venv $(VENV)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

# What is compiled once is not compiled again by each of hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench soak lint docs pictures lock secrets clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1 \t/' | expand -t 10

setup: $(VENV)/.runtime ## Set up .venv with what the service needs

demo: $(VENV)/.runtime ## Show the main job: orders delivered past faults, dead letters, an alert, a replay
	@$(BIN)/python -m worker demo

test: $(VENV)/.dev ## Run every test, the type checker, the linter and the import contracts
	@$(BIN)/python -m pytest

bench: $(VENV)/.dev ## Measure it against a plain Celery task per message, and against its own transport alone
	@$(BIN)/python -m bench

soak: $(VENV)/.dev ## Run the long storms, stories and figures, none begun after 120 minutes (MINUTES=30 for less)
	@$(BIN)/python -m pytest -m soak -n 0 -s --budget $(MINUTES)

MINUTES ?= 120

lint: $(VENV)/.dev ## Check types, style, import contracts, risky code and known vulnerabilities
	@$(BIN)/python -m pytest -n 0 tests/test_house.py
	@$(BIN)/python -m bandit --quiet --configfile pyproject.toml --recursive src worker tasks config
	@$(BIN)/python -m tests.audit

docs: $(VENV)/.dev ## Build the pages of the names a shop calls, in build/docs
	@$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs/api build/docs
	@echo build/docs/index.html

pictures: $(VENV)/.dev ## Take the pictures of the console's pages anew, in docs/pictures (needs Chromium)
	@$(BIN)/python -m tests.pictures

lock: ## Pin the newest versions that fit pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra service --group build --upgrade $(LOCK) -o requirements/service.txt
	uv pip compile pyproject.toml --extra service --group build --group dev -c requirements/service.txt \
	    --upgrade $(LOCK) -o requirements/dev.txt

LOCK := --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate --quiet

# A container's user is not this one: the folder keeps others out, the files can be read.
secrets: ## Make the passwords that docker-compose.yml asks for, in secrets/, where there are none
	@install -d -m 0700 secrets
	@for name in postgres redis flower web; do \
	    test -s secrets/$${name}_password \
	        || od -An -N 24 -t x1 /dev/urandom | tr -d ' \n' > secrets/$${name}_password; \
	done
	@test -s secrets/orderflow_main_password || printf demo > secrets/orderflow_main_password
	@chmod 0444 secrets/*

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.runtime: requirements/service.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "setting up $(VENV) …"
	@$(MAKE_VENV)
	@$(INSTALL) --require-hashes -r requirements/service.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "setting up the tools for tests …"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@
