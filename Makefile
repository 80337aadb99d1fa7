# Everything starts here: `make demo` shows the main job, `make test` runs every test. Both do all their set-up.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --quiet --disable-pip-version-check
STAMP := $(VENV)/.ready
unexport PYTHONDONTWRITEBYTECODE  # programs that are started hundreds of times would be compiled each time

.DEFAULT_GOAL := help
.PHONY: help setup assets browser demo test lint types simulate soak bench lock clean

help:
	@echo "make demo            the main job with real processes on this machine (KEEP=1 leaves it running)"
	@echo "make test            every test, against a real PostgreSQL (ARGS=tests/node: only those)"
	@echo "make lint types      ruff; mypy strict"
	@echo "make bench           the benchmarks, as a table (ARGS=--json: one object a line)"
	@echo "make simulate SEED=n one simulated world again; make soak: many worlds, long property tests, kills at each moment"
	@echo "make setup           only what the others do first: $(VENV) with the locked dependencies"
	@echo "make assets          the pages' styles, scripts and fonts from npm packages, and compiled templates (make setup does this too)"
	@echo "make lock            requirements.lock anew from pyproject.toml (needs uv); make clean: remove $(VENV)"

setup: $(STAMP) assets

assets: $(STAMP)
	@$(RUN) build_assets.py

# The stamp holds the folder it was made in: programs in a virtual environment do not survive that the folder is moved.
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell cat $(STAMP)),$(CURDIR))
.PHONY: $(STAMP)
endif
endif

# What is said goes to stderr, so that `make bench ARGS=--json` prints nothing but its objects.
$(STAMP): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "Python 3.11 or later is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; where there is one: make PYTHON=python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing python3-venv." >&2 && apt-get -qq update >&2 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null && "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; } \
		|| { echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV): the first time takes a minute." >&2
	@[ ! -f $@ ] || [ "$$(cat $@)" = "$(CURDIR)" ] || rm -rf $(VENV)
	@$(RUN) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@printf '%s\n' "$(CURDIR)" > $@

demo: $(STAMP) assets
	@KEEP="$(KEEP)" $(RUN) -m bench.demo

# The pages are tested in a real browser: any that is here, else Debian's.
browser: $(STAMP)
	@$(RUN) -m tests.browser.chromium >/dev/null 2>&1 \
		|| { [ "$$(id -u)" = 0 ] && [ -z "$$CHROME_PATH" ] && command -v apt-get >/dev/null && echo "Installing chromium." >&2 && apt-get -qq update >&2 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium fonts-noto-core >/dev/null; \
			$(RUN) -m tests.browser.chromium >/dev/null; }

test: $(STAMP) assets browser
	@[ -d ../shared ] || echo "The folder ../shared is not here: the tests in tests/shared are not run and not counted."
	@$(RUN) -m pytest -n 3 --dist worksteal -q --durations=10 $(or $(ARGS),tests)

lint: $(STAMP)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(STAMP)
	@$(RUN) -m mypy

simulate: $(STAMP)
	@$(RUN) -m tests.simulate $(SEED)

soak: $(STAMP)
	@HYPOTHESIS_PROFILE=soak SIMULATED_WORLDS=20000 $(RUN) -m pytest -n 2 -q tests/protocol tests/world \
		tests/hub/test_killed.py tests/hub/test_upgrade.py tests/node/test_killed.py tests/node/test_upgrade.py tests/node/test_sync.py

bench: $(STAMP) assets
	@$(RUN) -m bench $(ARGS)

lock:
	@command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 1; }
	@uv pip compile --quiet --all-extras --generate-hashes --no-header --no-annotate --python-version 3.11 $(ARGS) -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info
