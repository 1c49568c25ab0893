# make lab         the course, in JupyterLab       make lab ARGS=--no-browser · make lab GPU=1
# make reset       a fresh working copy of a notebook, beside yours: make reset NB=05
# make test        tests, lint, and every notebook on the sample set
# make check       lint and spelling alone, in seconds
# make test-all    that, and all that is slow: solutions, the browser, the thesis's records
# make coverage    how much of helpers and data/make the tests reach, line by line and branch by branch
# make notebooks   make the solutions' pages and run all notebooks again, keeping their outputs
# make site        the course as web pages, in build/site
# make links       follow every link of these pages to the outside, which needs a network
# make bench       measure, each figure beside its baseline
# make results     judge the shipped weights again: make results DATA=<folder in thesis layout>
# make data        make the sample set in data/sample again

ifndef PYTHON
PYTHON := $(firstword $(shell for p in python3 python3.12 python3.13 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p; done; true))
endif
VENV := .venv
BIN := $(VENV)/bin
KIND := $(if $(filter-out 0 no false,$(GPU)),gpu,cpu)
READY := $(VENV)/ready-$(KIND)
TESTS := $(VENV)/ready-test
JAX := $(VENV)/jax
# A folder that was moved, or whose Python is gone, is set up again.
WHOLE := $(BIN)/python -I -c 'import os, helpers; os.path.samefile(os.path.dirname(helpers.__file__), "helpers") or exit(1)'
BROKEN := $(shell $(WHOLE) 2>/dev/null || echo again)

# uv installs in seconds what takes pip a minute or two. Where it cannot be had, or fails, pip does
# it; and pip alone with make lab UV=, or in a room without a network, where PIP_NO_INDEX is set.
UV := $(if $(PIP_NO_INDEX),,uv==0.13.9)
define install
	@{ test -n "$(UV)" && uv=$$(command -v uv || ls $(BIN)/uv 2>/dev/null) && \
		$$uv pip install --quiet --python $(BIN)/python $(1); } || \
	PIP_USER=0 $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off $(1) || \
	{ echo "The packages are not all there: the lines above say why. Free disk: $$(df -Ph . | awk 'NR == 2 {print $$4}'), needed: 4 GB. With a network, and room, the same command goes on from here. Without a network: docs/teaching.md." >&2; exit 1; }
endef

export JUPYTER_PLATFORM_DIRS ?= 1

.PHONY: lab reset check test test-all coverage newest notebooks site links bench results data clean again

lab: $(READY)
	@$(BIN)/python -I -m helpers lab $(ARGS)

reset: $(READY)
	@$(BIN)/python -I -m helpers reset $(NB)

check: $(TESTS)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m codespell_lib
	$(BIN)/python -m mypy

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(ARGS)
	$(BIN)/python tests/run_notebooks.py check

test-all: test $(JAX)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow $(ARGS)
	$(BIN)/python tests/run_notebooks.py check-rest

coverage: $(TESTS)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 2 --dist loadfile $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# With the newest TensorFlow and Keras in place of the pinned ones; in a checkout of its own.
newest: $(TESTS)
	$(call install,--upgrade tensorflow keras)
	$(MAKE) test

notebooks: $(TESTS)
	$(BIN)/python tests/solutions.py
	$(BIN)/python tests/run_notebooks.py execute $(ARGS)

site: $(TESTS)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html -c docs . build/site
	@echo "build/site/index.html"

links: $(TESTS)
	$(BIN)/python -m sphinx -q -b linkcheck -c docs . build/links

bench: $(TESTS)
	$(BIN)/python -m tests.benchmarks $(ARGS)

results: $(READY)
	@test -n "$(DATA)" || { echo "Name the records: make results DATA=<folder in thesis layout>" >&2; exit 1; }
	$(BIN)/python -m data.make.results --data "$(DATA)" --work runs/results $(ARGS)

data: $(READY)
	$(BIN)/python -m helpers generate data/sample --training 192 --validation 24 --test 24 --seed 2024 --overwrite

# The mark is written last, so an interrupted installation is taken up again, not believed.
$(READY): requirements.txt pyproject.toml $(BROKEN)
	@test -n "$(PYTHON)" || { echo "No Python from 3.10 to 3.13 found. Install one, or name it: make lab PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { echo "$(PYTHON) is not a Python from 3.10 to 3.13. Name one: make lab PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test $(KIND) = cpu -o "$$(uname -s)" = Linux || { echo "TensorFlow uses GPUs on Linux and WSL2 only; here, run make lab without GPU." >&2; exit 1; }
	@test -z "$(BROKEN)" || rm -f $(VENV)/ready-*
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { command -v uv >/dev/null && uv venv --quiet --clear --seed --python $(PYTHON) $(VENV); } || { echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@test -z "$(UV)" || command -v uv $(BIN)/uv >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV) 2>/dev/null || true
	@echo "Installing the packages of the course, about 1 GB: this is done once."
	$(call install,-r requirements.txt)
	$(call install,--no-deps --no-build-isolation -e .)
	$(if $(filter gpu,$(KIND)),$(call install,-c requirements.txt "tensorflow[and-cuda]"))
	@touch $@

$(TESTS): $(READY) requirements-test.txt
	$(call install,-r requirements-test.txt)
	@touch $@

# Not part of the course: data/make/gpu.py is tried with it, on the packages of the course.
$(JAX): $(TESTS)
	$(call install,--target $@.new -c requirements.txt jax)
	@rm -rf $@ && mv $@.new $@

clean:
	rm -rf $(VENV) build *.egg-info
