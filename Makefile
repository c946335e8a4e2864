# What a stranger runs. `demo` needs only the inference packages; the rest uses an environment of its own.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
DEV := .venv-dev
PIP := -m pip install --quiet --disable-pip-version-check
SOURCES := $(shell find src -type f -not -name '*.pyc')
# Options of one call, such as: make test ARGS="-k predict", make bench ARGS="--frames 10000"
ARGS ?=

.DELETE_ON_ERROR:
.PHONY: demo test test-slow check format bench clean

demo: $(VENV)/.installed  ## Find the people in a bundled picture.
	$(VENV)/bin/fleetpose demo $(ARGS)

# Training gets a process of its own: after thousands of other tests in one it has crashed in native code.
test: $(DEV)/.installed  ## Run the tests that take minutes.
	$(DEV)/bin/python -m pytest -m "not slow and not gpu" --ignore tests/train $(ARGS) || test $$? -eq 5  # none selected
	$(DEV)/bin/python -m pytest -m "not slow and not gpu" tests/train $(ARGS) || test $$? -eq 5  # none selected

test-slow: $(DEV)/.installed  ## Run the tests that take long.
	$(DEV)/bin/python -m pytest -m slow $(ARGS)

check: $(DEV)/.installed  ## Lint, formatting and types.
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

format: $(DEV)/.installed  ## Write the formatting that `check` asks for.
	$(DEV)/bin/ruff format .

bench: $(VENV)/.installed  ## Frames per second from file to file, and memory over time.
	$(VENV)/bin/python benchmarks/end_to_end.py $(ARGS)

clean:  ## Remove both environments and what tools left.
	rm -rf $(VENV) $(DEV) build dist .mypy_cache .ruff_cache .pytest_cache

# The package is copied, as for any user, so it is installed again when a source changes.
$(VENV)/.installed: pyproject.toml README.md LICENSE $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) .
	touch $@

# PyTorch comes first and alone, so that the rest is resolved against exactly this version.
$(DEV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(PIP) $(TORCH)
	$(DEV)/bin/python $(PIP) -e '.[dev]'
	touch $@
