# Two commands on a fresh machine: `make demo` and `make test`. Both create .venv and install the dependencies.
# `make setup` is for work on the code (CONTRIBUTING.md).
#
#   TORCH_INDEX=URL  an extra package index for torch (see README: the CPU build of torch)
#   PYTHON=python3   the interpreter for .venv

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
FLOORS := tests/images tests/test_masks.py tests/test_overlays.py tests/test_api.py tests/test_api_models.py tests/data tests/clip \
	tests/dense tests/papers tests/variants tests/cli
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: setup demo test lint format types imports unit parity parity-weights parity-crf parity-metrics students-test sam-test app-test openvino-test bridges round-trip speed memory kill long-run fuzz floors miniature ablation figures clean

demo: .venv/installed
	$(BIN)/tagmask demo

setup: .venv/installed-test  # .venv with everything for `make test`, and its quick checks before each commit
	$(PIP) -e ".[dev]"
	$(BIN)/pre-commit install

# -- Checks that .ci/run requires ----------------------------------------------------------------------------

test: lint types imports unit

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed-test
	$(BIN)/mypy

imports: .venv/installed-test
	$(BIN)/lint-imports

unit: .venv/installed-test
	OMP_WAIT_POLICY=passive $(BIN)/pytest -q -n auto --maxprocesses 4

# -- Other checks: run when the part in question changes -------------------------------------------------------

parity: .venv/installed-test  # every array of the reference files in ../shared/golden
	$(BIN)/pytest -q -m parity

# The other libraries get a separate environment: tagmask does not need them, and one of them installs a torchvision
# whose compiled extension does not match a CPU build of torch (tests/oracles/torchvision_shim.py).
parity-weights: build/weights-parity/installed
	build/weights-parity/bin/python -m pytest -q -m weights_parity -rA --no-header -p no:cacheprovider

# pydensecrf2 is compiled on installation, but does not declare that it needs Cython and numpy.
parity-crf: build/crf-parity/installed  # the dense CRF compared with pydensecrf2's: labels, time, memory
	build/crf-parity/bin/python -m benchmarks.crf

students-test: build/students/installed  # students from transformers; exported files, run with onnxruntime
	build/students/bin/python -m pytest -q -m students -rP --no-header -p no:cacheprovider -p no:logging

sam-test: build/sam/installed  # region proposals by SAM and SAM 2 from transformers, without torchvision
	build/sam/bin/python -m pytest -q -m sam -rP --no-header -p no:cacheprovider -p no:logging

app-test: build/app/installed  # the review page in Debian's Chromium, driven by Playwright
	build/app/bin/python -m pytest -q -m app -rP --no-header -p no:cacheprovider tests/app

openvino-test: build/openvino/installed  # the OpenVINO engine compared with torch, and int8
	build/openvino/bin/python -m pytest -q -m openvino -rP --no-header -p no:cacheprovider -p no:logging

parity-metrics: build/metrics-parity/installed
	build/metrics-parity/bin/python -m pytest -q -m metrics_parity -rA --no-header -p no:cacheprovider

# Exports and bridges with the other tools' own libraries, each in an environment of its own. Pinned are those
# whose formats were read in the source of one version; the others are the newest.
BRIDGES := labelstudio browser sdk fiftyone datumaro hf pycocotools
build/bridges/labelstudio/installed: PACKAGES := label-studio==1.23.2
build/bridges/browser/installed: PACKAGES := playwright  # drives /usr/bin/chromium
build/bridges/sdk/installed: PACKAGES := label-studio-sdk==2.1.2 cvat-sdk==2.80.0 cvat-cli==2.80.0 supervision
build/bridges/fiftyone/installed: PACKAGES := fiftyone
build/bridges/datumaro/installed: PACKAGES := datumaro
build/bridges/hf/installed: PACKAGES := datasets pyarrow
build/bridges/pycocotools/installed: PACKAGES := pycocotools==2.0.8

bridges: .venv/installed-test $(BRIDGES:%=build/bridges/%/installed)
	$(BIN)/python -m pytest -q -m bridges -rP --no-header -p no:cacheprovider tests/bridges tests/app

round-trip: .venv/installed-test $(BRIDGES:%=build/bridges/%/installed)  # a table: each format, opened by its tools
	$(BIN)/python -m benchmarks.round_trip

speed: .venv/installed-test  # speed ratios to a plain implementation, on this machine
	$(BIN)/python -m benchmarks.speed

memory: .venv/installed-test  # memory curve of a benchmark run over 5,000 images
	$(BIN)/python -m benchmarks.memory

long-run: .venv/installed-test  # 100,000 small images, tagged and masked, killed and resumed; memory on the way
	$(BIN)/python -m benchmarks.long_run tag
	$(BIN)/python -m benchmarks.long_run mask

kill: .venv/installed-test  # commands killed at 102 random moments, against runs that nobody killed; a long listing
	$(BIN)/pytest -q -m kills
	$(BIN)/python -m benchmarks.kills

fuzz: .venv/installed-test  # 250,000 mutated files to every reader; failing inputs: build/fuzz
	$(BIN)/python -m benchmarks.fuzz

# With the lowest versions that pyproject.toml allows, of everything but torch. Old packages may use what newer
# ones call deprecated.
floors: build/floors/installed
	build/floors/bin/python -m pytest -q -W ignore::DeprecationWarning -p no:cacheprovider $(FLOORS)

# Passive waiting costs little when the machine has other work; active spinning, the default, costs a lot.
miniature: .venv/installed  # retrain the bundled model: 215 CPU minutes; resumes; images: 8 GB in build/
	mkdir -p build/miniature
	OMP_WAIT_POLICY=passive nice $(BIN)/python -m tagmask.miniature.training.pretrain \
		build/miniature src/tagmask/miniature/miniature.safetensors

ablation: .venv/installed-test  # WeakCLIP's ablations in the miniature world: hours; resumes; table in build/ablation
	mkdir -p build/ablation
	OMP_WAIT_POLICY=passive nice $(BIN)/python -m benchmarks.weak_ablation build/ablation

# Each is written into its page as soon as it is made. `ONLY='sclip-* world'` makes some, `ONLY=--stale` what is
# stale, which also goes on after a stop, `ONLY=--check` says what is stale, `ONLY='--skip report*'` leaves some out.
figures: .venv/installed-test  # remake the tables and pictures of README.md and docs/: minutes
	OMP_WAIT_POLICY=passive nice $(BIN)/python -m benchmarks.figures $(foreach name,$(ONLY),'$(name)')

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

build/sam/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/sam
	$(subst $(BIN),build/sam/bin,$(PIP)) -e ".[test,sam]"
	touch $@

build/app/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/app
	$(subst $(BIN),build/app/bin,$(PIP)) -e ".[test]" playwright
	touch $@

build/openvino/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/openvino
	$(subst $(BIN),build/openvino/bin,$(PIP)) -e ".[test,openvino]"
	touch $@

build/floors/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/floors
	$(PYTHON) -m benchmarks.floors > build/floors/constraints.txt
	$(subst $(BIN),build/floors/bin,$(subst -c constraints.txt,-c build/floors/constraints.txt,$(PIP))) \
		-e ".[coco]" pytest beartype hypothesis
	touch $@

build/metrics-parity/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/metrics-parity
	$(subst $(BIN),build/metrics-parity/bin,$(PIP)) -e ".[test]" scikit-learn torchmetrics
	touch $@

build/bridges/%/installed: Makefile
	$(PYTHON) -m venv build/bridges/$*
	build/bridges/$*/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	touch $@

.venv/installed-test: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[test]"
	touch $@ .venv/installed
