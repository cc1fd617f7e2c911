# Needs Python 3.10 or newer and make. Every target sets up .venv first if it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXAMPLES := $(VENV)/.examples

.DEFAULT_GOAL := help
.PHONY: help quickstart lint format types test test-all configs docs clean

help:
	@echo 'make quickstart  set up, train the default job on real digits, evaluate it'
	@echo 'make test        the fast tests      make test-all  all tests'
	@echo 'make lint types  style and types     make format    apply the style'
	@echo 'make configs     write the generated configs; make docs: the generated pages'

$(READY): requirements.txt requirements-pinned.txt requirements-dev.txt setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --requirement requirements-pinned.txt --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Packages that only the examples need; the fast tests do without.
$(EXAMPLES): $(READY) requirements-examples.txt
	$(BIN)/python -m pip install --quiet --requirement requirements-pinned.txt --requirement requirements-examples.txt
	@touch $@

QUICK := digits/resnet8_mixup_1xb50-30e_digits.py

quickstart: $(READY)
	$(BIN)/python tools/train.py $(QUICK) --work-dir work_dirs/quickstart
	$(BIN)/python tools/test.py $(QUICK) work_dirs/quickstart/epoch_30.pth --work-dir work_dirs/quickstart/test

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tools/make_configs.py --check
	$(BIN)/python tools/make_docs.py --check

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(READY)
	$(BIN)/mypy

# One thread a process: with two test processes on two cores more threads only get in each other's way.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n 2

test-all: $(EXAMPLES)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

configs: $(READY)
	$(BIN)/python tools/make_configs.py

docs: $(READY)
	$(BIN)/python tools/make_docs.py

clean:
	rm -rf build *.egg-info .pytest_cache .ruff_cache .mypy_cache
