# `make demo` and `make test` are all a new machine needs: Python 3.11 or newer, and make.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
JOBS ?= 2
# Tests start some hundred processes: without bytecode each would compile Thalweg's own sources, which doubles its start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-slow unit lit conformance lint types docs bench bench-peers wheel clean

help:
	@echo "make demo         train a model on real data, show every stage of the program it compiled"
	@echo "make test         lint, types, and all quick tests: unit, lit, conformance, properties, tutorial"
	@echo "make test-slow    the exhaustive suites: every op x dtype x backend, examples to their accuracy"
	@echo "make bench        workloads against the peers that are installed (make bench-peers installs them)"
	@echo "make docs         regenerate docs/ops.md and docs/passes.md from the tables"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Thalweg needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.examples: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install -q --disable-pip-version-check -e '.[examples]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install -q --disable-pip-version-check -e '.[examples,test]'
	@touch $@

$(VENV)/.peers: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@

demo: $(VENV)/.examples
	$(RUN) examples/demo.py

test: lint types unit lit

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .

types: $(VENV)/.test
	$(VENV)/bin/mypy -p thalweg

unit: $(VENV)/.test
	$(RUN) -m pytest -n $(JOBS) --dist loadfile -m "not slow" tests

lit: $(VENV)/.test
	PATH="$(abspath $(VENV)/bin):$$PATH" $(VENV)/bin/lit -q -j $(JOBS) tests/ir

test-slow: $(VENV)/.test
	$(RUN) -m pytest -n $(JOBS) --dist loadfile -m slow tests

docs: $(VENV)/.test
	$(RUN) -m thalweg.tools.generate_docs

bench-peers: $(VENV)/.peers

bench: $(VENV)/.examples
	$(RUN) -m benchmarks --memory

wheel: $(VENV)/.test
	$(RUN) -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
