# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv and install what they need.
#
#   TORCH_INDEX=URL  an extra package index, where torch is looked for too (see README: the CPU build of torch)
#   PYTHON=python3   the interpreter .venv is made with

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test lint format types imports unit parity parity-weights parity-crf parity-metrics students-test speed memory miniature tables clean

demo: .venv/installed
	$(BIN)/tagmask demo

# -- The gate: what .ci/run runs -----------------------------------------------------------------------------

test: lint types imports unit

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed-test
	$(BIN)/mypy

imports: .venv/installed-test
	$(BIN)/lint-imports

unit: .venv/installed-test
	$(BIN)/pytest -q

# -- Not in the gate: run when the part in question is touched -------------------------------------------------

parity: .venv/installed-test  # every array of the reference packs in ../shared/golden
	$(BIN)/pytest -q -m parity

# The other libraries have an environment of their own: they are no part of tagmask, and one of them pulls in a
# torchvision whose compiled half does not fit a CPU build of torch (tests/oracles/torchvision_shim.py).
parity-weights: build/weights-parity/installed
	build/weights-parity/bin/python -m pytest -q -m weights_parity -rA --no-header -p no:cacheprovider

# pydensecrf2 is compiled on installation, and says neither that it needs Cython nor that it needs numpy.
parity-crf: build/crf-parity/installed  # the dense CRF beside pydensecrf2's: labels, time, memory
	build/crf-parity/bin/python -m benchmarks.crf

students-test: build/students/installed  # students of transformers; exported files, run with onnxruntime
	build/students/bin/python -m pytest -q -m students -rP --no-header -p no:cacheprovider -p no:logging

parity-metrics: build/metrics-parity/installed
	build/metrics-parity/bin/python -m pytest -q -m metrics_parity -rA --no-header -p no:cacheprovider

speed: .venv/installed-test  # ratios against a plain transcription, on this machine
	$(BIN)/python -m benchmarks.speed

memory: .venv/installed-test  # the curve of a benchmark run over 5,000 images
	$(BIN)/python -m benchmarks.memory

# Threads that wait asleep cost little when the machine has other work too; spinning ones, the default, a lot.
miniature: .venv/installed  # train the bundled model anew: 130 processor minutes; resumes; pictures: 8 GB in build/
	mkdir -p build/miniature
	OMP_WAIT_POLICY=passive nice $(BIN)/python -m tagmask.miniature.training.pretrain \
		build/miniature src/tagmask/miniature/miniature.safetensors

tables: .venv/installed  # the tables of docs/miniature.md
	$(BIN)/tagmask bench miniature

format: .venv/installed-test
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

build/weights-parity/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/weights-parity
	$(subst $(BIN),build/weights-parity/bin,$(PIP)) -e ".[test]" open_clip_torch transformers timm
	touch $@

build/crf-parity/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/crf-parity
	$(subst $(BIN),build/crf-parity/bin,$(PIP)) -e . cython setuptools wheel
	$(subst $(BIN),build/crf-parity/bin,$(PIP)) --no-build-isolation pydensecrf2
	touch $@

build/students/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/students
	$(subst $(BIN),build/students/bin,$(PIP)) -e ".[test,students,export]"
	touch $@

build/metrics-parity/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/metrics-parity
	$(subst $(BIN),build/metrics-parity/bin,$(PIP)) -e ".[test]" scikit-learn torchmetrics
	touch $@

.venv/installed-test: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[test]"
	touch $@ .venv/installed
