SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DATASET ?=
CHECKPOINT ?=

.PHONY: help env repro export test test-fast lint lab slovo bench-rehearsal bench-recogniser bench-scale bench-formats bench-hands bench-extraction lock

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

env: $(VENV)/.installed  ## make .venv with every version of requirements.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@for lib in libGL.so.1 libglib-2.0.so.0; do $(PYTHON) -c "import ctypes; ctypes.CDLL('$$lib')" 2>/dev/null || \
		{ echo "$$lib is missing, OpenCV needs it: sudo apt-get install libgl1 libglib2.0-0"; exit 1; }; done
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

repro: env  ## the whole pipeline, then the metrics and the report; DATASET=name or path of a data set's YAML
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m slr_lib.pipeline $(if $(DATASET),--dataset $(DATASET))

export: env  ## the newest checkpoint, or CHECKPOINT=file, as one ONNX file beside it; INT8=1: with weights of 8 bits
	$(BIN)/python -m slr_lib.onnx_export $(CHECKPOINT) $(if $(INT8),--int8)

test: env  ## all tests
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: env  ## the tests of the inner loop: all but the slow ones
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -n 2 --dist loadfile -m "not slow"

lint: env  ## ruff over code and notebooks
	$(BIN)/ruff check .

lab: env  ## JupyterLab on the exploration notebook
	PATH="$(CURDIR)/$(BIN):$$PATH" jupyter lab notebooks/00_explore.ipynb

slovo: env  ## download Slovo (16 GB), check and unpack it into data/slovo; then: make repro DATASET=slovo
	$(BIN)/python -m slr_lib.download slovo

bench-hands: env  ## how many visible hands are found, by setting, on the demo and on real clips and pictures; last line JSON
	$(BIN)/python benchmarks/hands.py

bench-extraction: env  ## landmark extraction against the machine's own limit, 720x1280 and full HD; last line JSON
	$(BIN)/python benchmarks/extraction.py

bench-rehearsal: env  ## fill a store of Slovo's true size with synthetic landmarks, prepare it, train an epoch; last line JSON
	$(BIN)/python benchmarks/rehearsal.py

bench-recogniser: env  ## speed and size of the recogniser beside the predecessor's, repaired; last line JSON
	$(BIN)/python benchmarks/recogniser.py

bench-scale: env  ## cost a clip and memory from 1,000 to 200,000 synthetic clips; reports/scale.csv and .png
	$(BIN)/python benchmarks/scale.py

bench-formats: env  ## read every kind of clip, good and broken, beside its truth; Markdown tables, last line JSON
	$(BIN)/python benchmarks/formats.py

lock:  ## pin anew, in a fresh environment, what pyproject.toml asks for
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --upgrade torch==2.13.0 setuptools --editable '.[mediapipe,test]'
	build/lock/bin/pip freeze --all --exclude-editable | sed 's/+cpu$$//' | grep -v '^pip==' > requirements.lock
	rm -rf build/lock
