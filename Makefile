# One command each. `make setup` needs python3 (3.11 or newer), venv and the network; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all chaos fuzz check bench bench-gpu clean

help: ## Show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "playmill needs Python 3.11 or newer; set PYTHON=")'
	@echo "Installing into $(VENV): about 6 GB, which takes some minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints constraints.txt --editable '.[dev]'
	touch $@
	@echo 'Playmill is ready: source $(BIN)/activate, then playmill --help'

demo: setup ## Real recordings become datasets through the whole mill
	$(BIN)/playmill run examples/recordings --datasets demo-datasets
	$(BIN)/playmill inspect demo-datasets/session_dm2-0001-a/data.h5
	$(BIN)/playmill verify demo-datasets/*/data.h5

# On Linux 6.18 the kernel ends a process of a thousand tests with SIGSEGV (si_code SI_KERNEL, at no
# faulty instruction) as it begins another one, unless glibc leaves restartable sequences alone.
test: export GLIBC_TUNABLES := glibc.pthread.rseq=0
test: setup ## Unit and integration tests
	$(BIN)/pytest -n auto tests/unit
	$(BIN)/pytest tests/integration

chaos: setup ## Kill, stop, fill and cut off everything; under 15 minutes
	$(BIN)/pytest tests/chaos --capture=no

fuzz: setup ## Broken logs for every reader, a million each (hours); fewer with INPUTS=
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000)

check: setup ## Style, types, imports, the wheel's content, compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/python tests/check_wheel.py

bench: setup ## Speed of everything, side by side; about 10 minutes
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.suite --plot benchmarks/stages.png

bench-gpu: setup ## Frames per second on a GPU, decoded on the CPU and on NVDEC; of RECORDING=
	$(BIN)/python -m benchmarks.gpu $(if $(RECORDING),"$(RECORDING)")

clean: ## Remove what the other commands made
	rm -rf $(VENV) demo-datasets dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
