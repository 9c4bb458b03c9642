PYTHON ?= $(shell command -v python3.12 || command -v python3.13 || command -v python3.14 || command -v python3)
BIN := .venv/bin
WORKDIR ?= runs/lenet_digits
WORKERS ?= auto
# uv takes 7 s where pip takes 26; pip serves where only its own settings name the package index.
options = --quiet --constraint constraints.txt --editable '.[$(1)]'
install = $(BIN)/uv pip install --python $(BIN)/python $(options) || \
  $(BIN)/python -m pip install $(options)

# Packages are compiled to bytecode when they are first imported, and once.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint format clean

demo: .venv/installed  ## Train LeNet on handwritten digits (10 s, no download of data)
	$(BIN)/python -m research.train --config experiments/vision/lenet_digits.py --workdir $(WORKDIR)

test: .venv/installed  ## Run all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: .venv/lint  ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/lint  ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
	  { echo "Python 3.12 or newer is needed; found $(PYTHON). Set PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(call install,test)
	touch $@

.venv/lint: .venv/installed
	$(call install,lint)
	touch $@

clean:  ## Remove what make made
	rm -rf .venv build *.egg-info
