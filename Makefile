# Everything starts here: `make demo` shows the main job, `make test` runs every test. Both do all their set-up.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types simulate soak bench clean

help:
	@echo "make demo            the main job with real processes on this machine (KEEP=1 leaves it running)"
	@echo "make test            every test, against a real PostgreSQL"
	@echo "make lint types      ruff; mypy strict"
	@echo "make bench           the benchmarks, as a table (ARGS=--json: one object a line)"
	@echo "make simulate SEED=n one simulated world again; make soak: many worlds and long property tests"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or later is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: apt-get install python3 python3-venv, or PYTHON=python3.11 make"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null; } || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV): the first time takes a minute."
	@[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

demo: $(STAMP)
	@KEEP=$(KEEP) $(RUN) -m bench.demo

test: $(STAMP)
	@[ -d ../shared ] || echo "The folder ../shared is not here: the tests in tests/shared are not run and not counted."
	@$(RUN) -m pytest -n 2 -q --durations=10 tests

lint: $(STAMP)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(STAMP)
	@$(VENV)/bin/mypy

simulate: $(STAMP)
	@$(RUN) -m tests.simulate $(SEED)

soak: $(STAMP)
	@HYPOTHESIS_PROFILE=soak SIMULATED_WORLDS=20000 $(RUN) -m pytest -n 2 -q tests/protocol tests/world

bench: $(STAMP)
	@$(RUN) -m bench $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info
