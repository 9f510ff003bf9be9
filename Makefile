# Everything there is to run, in one place. `make help` lists it.
#
# PYTHON=python3.12   the interpreter the environment is made with (3.11 or newer)
# MEDMNIST=yes        `make encoders` downloads BreastMNIST too and trains on it
# ARGS="--smoke"      passed on to `graphssl demo`, pytest or the benchmarks

PYTHON ?= python3
ARGS ?=
MEDMNIST ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LEARN2LEARN := $(VENV)/.learn2learn
LIGHTLY := $(VENV)/.lightly

.DEFAULT_GOAL := help
.PHONY: help demo encoders test lint docs bench learn2learn peers clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## simulate a cohort, pre-train, fine-tune, compare with baselines, write a report
	$(BIN)/graphssl demo $(ARGS)

encoders: $(INSTALLED)  ## pre-train the encoders that need nobody's data: connectomes, stays, images (runs/, see docs/how-to/open-encoders.md)
	$(BIN)/graphssl pretrain --config configs/objectives/masked_regions.yaml $(ARGS)
	$(BIN)/graphssl pretrain --config configs/objectives/timeline_tasks.yaml $(ARGS)
	$(BIN)/graphssl pretrain --config configs/objectives/image_ntxent.yaml $(ARGS)
ifneq ($(MEDMNIST),)
	$(BIN)/graphssl pretrain --config configs/objectives/medmnist_ntxent.yaml $(ARGS)
endif

test: $(INSTALLED)  ## run the tests (all but the slow ones) and print the coverage
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

lint: $(INSTALLED)  ## check format, style, the floors and the types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(INSTALLED)  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(INSTALLED)  ## measure ours beside peers, half an hour, and write the table of docs/reference/performance.md (ARGS="--smoke" for a quick look)
	@$(MAKE) peers || echo "A peer could not be installed: the rows beside it stay empty" >&2
	$(BIN)/python benchmarks $(ARGS)

learn2learn: $(LEARN2LEARN)  ## build learn2learn, beside which meta-learning is tested (about a minute, once)

peers: $(LEARN2LEARN) $(LIGHTLY)  ## install what is measured beside ours and used nowhere else

clean:  ## remove what the other targets made, the environment included; runs/ stays
	rm -rf $(VENV) site build dist htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Its own requirements (gym, torchvision, qpth) are left out: nothing that is used here needs them. The C files it ships do not compile, so they are made anew.
$(LEARN2LEARN): $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt cython setuptools wheel
	$(BIN)/python -m pip install --use-pep517 --no-deps --no-build-isolation --config-settings=--build-option=build_ext learn2learn==0.2.0
	@touch $@

# Its losses are measured beside ours. Its requirements are left out: of them they need PyTorch.
$(LIGHTLY): $(INSTALLED)
	$(BIN)/python -m pip install --no-deps lightly==1.6.0
	@touch $@

# Made anew only when a dependency changes. The file is touched last, so an interrupted installation is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Expected Python 3.11 or newer as '$(PYTHON)', found none. Install it, or name another: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Expected Python 3.11 or newer, found $$($(PYTHON) --version) as '$(PYTHON)'. Name another: make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,docs,dgl,imaging,knn,postgres]'
	@touch $@
