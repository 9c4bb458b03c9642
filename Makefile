PYTHON ?= $(shell command -v python3.12 || command -v python3.13 || command -v python3.14 || command -v python3)
BIN := .venv/bin
WORKDIR ?= runs/lenet_digits
WORKERS ?= auto

.PHONY: demo test lint format clean

demo: .venv/installed  ## Train LeNet on handwritten digits (20 s, no download of data)
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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[test]'
	-$(BIN)/python -m compileall -qq -j 0 -x /tests/ .venv/lib  # on every core; pip uses one
	touch $@

.venv/lint: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lint]'
	touch $@

clean:  ## Remove what make made
	rm -rf .venv build *.egg-info
