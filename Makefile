# make setup | litert | demo | test | lint | slow | soak | bench | bench-gpu | clean: each does all it needs on a fresh clone.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: setup litert demo test lint slow soak bench bench-gpu clean

setup: $(STAMP)

# Installed again only where what is installed has changed.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lite,tensorboard,onnx,dev]'
	touch $(STAMP)

# What converts models to LiteRT; apart, since it is large and no training needs it.
litert: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt litert-torch ai-edge-quantizer

demo: setup
	$(BIN)/effnet-ft demo

test: setup lint
	$(BIN)/python -m pytest -m 'not slow' -n auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: setup
	$(BIN)/python -m pytest -m slow -n auto --maxprocesses 2

soak: setup
	$(BIN)/python benchmarks/soak.py

bench: setup
	$(BIN)/python benchmarks/run.py

bench-gpu: setup
	$(BIN)/python benchmarks/run.py --gpu

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache
