# One virtual environment for everything; a stamp says what was installed into it, and from which pyproject.toml.
.DEFAULT_GOAL := help
.PHONY: help search test test-fast cluster-test check docs audit clean

# The first Python from 3.11 on that can make virtual environments; PYTHON=... overrides.
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
PIP := $(VENV)/bin/python -m pip install -q --disable-pip-version-check
# PyPI's torch for Linux has CUDA in it, several gigabytes; TORCH_INDEX=https://download.pytorch.org/whl/cpu has it without.
TORCH_INDEX :=
TORCH = $(if $(TORCH_INDEX),$(PIP) torch torchvision --index-url $(TORCH_INDEX))
AUDIT := $(VENV)/bin/pip-audit --progress-spinner off

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

search: $(VENV)/.installed ## search for the best curriculum: make search ARGS="--preset cifar10 training.kimg=5000"
	$(VENV)/bin/python tune/search.py $(ARGS)

test: $(VENV)/.installed-dev ## run the tests: make test ARGS="tests/config/test_schema.py -k override"
	$(VENV)/bin/python -m pytest $(ARGS)

test-fast: $(VENV)/.installed-dev ## run the quick tests, some three minutes on two cores: before every commit
	$(VENV)/bin/python -m pytest -m "not slow" $(ARGS)

cluster-test: $(VENV)/.installed-dev ## of the tests, the one that brings a cluster up by ray up on hosts of this machine (Linux, root)
	$(VENV)/bin/python -m pytest -m cluster -n 0 $(ARGS)

check: $(VENV)/.installed-dev ## what a change must pass: style, format, types, imports, documents and tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(MAKE) docs
	$(MAKE) audit
	$(MAKE) test

docs: $(VENV)/.installed-dev ## build the documentation into build/docs; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict -f docs/site/mkdocs.yml
	@echo "build/docs/index.html; with search: $(VENV)/bin/python -m http.server -d build/docs"

# A service that knows nothing answers like one that finds nothing: a package of known vulnerabilities goes first.
audit: $(VENV)/.installed-dev ## known vulnerabilities of all that is installed
	@if echo "pillow==9.0.0" | $(AUDIT) --no-deps --disable-pip -r /dev/stdin 2>&1 | grep -q "Found [0-9]* known"; then \
		$(AUDIT) --local --skip-editable; \
	else echo "audit: NOT DONE, no vulnerability service answers from here; make audit where PyPI is reached" >&2; fi

clean: ## remove the virtual environment and caches; data and runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@test -n "$(PYTHON)" || { echo "error: no Python from 3.11 on with venv was found; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(TORCH)
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	$(TORCH)
	$(PIP) -e '.[dev]'
	@touch $@
