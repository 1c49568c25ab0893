# make lab         the course, in JupyterLab       make lab ARGS=--no-browser · make lab GPU=1
# make test        every test and every notebook
# make notebooks   run the notebooks again and keep their outputs
# make bench       measure, each figure beside its baseline
# make results     judge the shipped weights again: make results DATA=<folder in thesis layout>
# make data        make the sample set in data/sample again

ifndef PYTHON
PYTHON := $(firstword $(shell for p in python3 python3.12 python3.13 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p; done))
endif
VENV := .venv
BIN := $(VENV)/bin
KIND := $(if $(filter-out 0 no false,$(GPU)),gpu,cpu)
READY := $(VENV)/ready-$(KIND)
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off

export TF_CPP_MIN_LOG_LEVEL ?= 3
export JUPYTER_PLATFORM_DIRS ?= 1

.PHONY: lab test notebooks bench results data clean

lab: $(READY)
	$(BIN)/python -m jupyterlab notebooks/00_start_here.ipynb $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)
	$(BIN)/python tests/run_notebooks.py check

notebooks: $(READY)
	$(BIN)/python tests/run_notebooks.py execute $(ARGS)

bench: $(READY)
	$(BIN)/python -m tests.benchmarks $(ARGS)

results: $(READY)
	@test -n "$(DATA)" || { echo "Name the records: make results DATA=<folder in thesis layout>" >&2; exit 1; }
	$(BIN)/python -m helpers.results --data "$(DATA)" --work runs/results $(ARGS)

data: $(READY)
	$(BIN)/python -m helpers.records generate data/sample --training 192 --validation 24 --test 24 --seed 2024 --overwrite

# The mark is written last, so an interrupted installation is taken up again, not believed.
$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python from 3.10 to 3.13 found. Install one, or name it: make lab PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { echo "$(PYTHON) is not a Python from 3.10 to 3.13. Name one: make lab PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test $(KIND) = cpu -o "$$(uname -s)" = Linux || { echo "TensorFlow uses GPUs on Linux and WSL2 only; here, run make lab without GPU." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-deps -e .
	$(if $(filter gpu,$(KIND)),$(INSTALL) -c requirements.txt "tensorflow[and-cuda]")
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
