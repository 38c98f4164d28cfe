# Every target sets up what it needs in .venv, from the pins of constraints.txt, and reuses it the next time.
#
#   make demo         prune a small digits network three ways and compare: runs/demo
#   make test         native build, ruff, mypy, all tests, doctests
#   make bench        Markdown tables, some minutes: the evaluator and moves against torch, bytes on disk, quickly;
#                     the strategies
#   make study        the claim over networks and data, hours, and goes on where it was stopped; minutes with
#                     STUDY="--quick". STUDY="--data FOLDER --cifar FOLDER" says where MNIST and CIFAR-10 lie
#   make installs     build and install the package in every supported way, with and without compilers
#   make sanitizers   the kernel tests on kernels built with address and undefined-behaviour sanitizers
#   make fuzz         damaged files for the readers of sparse weights, by Atheris, a minute each; SECONDS=600 for ten
#   make gpu-check    for a machine with a GPU and no network: build, check and time within 8 minutes, by its own Python,
#                     not .venv; GPU_CHECK=--installed builds nothing
#   make gpu-code     all that can be checked of the GPU kernels without a GPU: some minutes
#   make doctor       what runs on this machine
#   make lint         ruff and mypy alone
#   make clean        remove .venv, build folders, caches and runs
#
# PYTHON=python3.12         which Python makes .venv (3.10 or newer)
# OPTPRUNE_REQUIRE_NATIVE=0 go on without a C++ compiler: slower, and fine for `make demo`; `make test` needs one
PYTHON ?= python3
export OPTPRUNE_REQUIRE_NATIVE ?= 1

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := CMakeLists.txt $(shell find cmake csrc -type f)
PYTHON_FILES := optprune_fast tests examples scripts benchmarks

.PHONY: demo test tests doctests lint bench study installs installs-cheap sanitizers fuzz gpu-check gpu-code doctor clean install
.DEFAULT_GOAL := test

install: $(VENV)/installed

$(VENV)/python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "optprune_fast needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# What builds the package, so that the build needs no isolation and a second one compiles only what changed.
$(VENV)/build-tools: constraints.txt | $(VENV)/python-is-new-enough
	$(PIP) scikit-build-core pybind11 cmake ninja
	@touch $@

$(VENV)/installed: $(VENV)/build-tools pyproject.toml $(NATIVE)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation --editable '.[demo,dev,onnx,triton]'
	@touch $@

# Numba compiles a cached function anew when its own file has changed, and does not see the files that it calls into.
$(VENV)/numba-cache: $(wildcard optprune_fast/*/numba_*.py) | $(VENV)/installed
	find optprune_fast -name '*.nb[ic]' -delete
	@touch $@

demo: install
	$(BIN)/optprune-fast demo

test: lint tests doctests

lint: install
	$(BIN)/ruff check $(wildcard $(PYTHON_FILES))
	$(BIN)/mypy

# CI prints the last lines of a run: the doctests come first, the table of backends and pytest's closing line last.
# One worker a core, one thread a worker. A worker that is done takes half of what another has left: files stay nearly
# whole, since their tests share what they set up, and none waits for the longest file.
tests: install doctests $(VENV)/numba-cache
	OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses auto --dist worksteal

doctests: install $(VENV)/numba-cache
	$(BIN)/pytest -q --doctest-modules optprune_fast

bench: install
	$(BIN)/python -m benchmarks.masked_forward.run --quick
	$(BIN)/python -m benchmarks.moves.run --quick
	$(BIN)/python -m benchmarks.deploy.disk --quick
	$(BIN)/python benchmarks/search/defaults.py

study: install
	$(BIN)/python -m benchmarks.study.run $(STUDY)

installs: install
	$(BIN)/python scripts/check_installs.py

installs-cheap: install
	$(BIN)/python scripts/check_installs.py --cheap

sanitizers: install
	$(BIN)/python scripts/check_sanitizers.py

# A process a target, as many at a time as there are cores: the fuzzer ends the process that it guides.
fuzz: $(VENV)/fuzzer
	$(MAKE) --no-print-directory --jobs $(shell nproc) fuzz-file fuzz-planes fuzz-streams fuzz-foreign

fuzz-%: $(VENV)/fuzzer
	$(BIN)/python scripts/fuzz_formats.py --guided $* --seconds $(or $(SECONDS),60)

$(VENV)/fuzzer: pyproject.toml constraints.txt | $(VENV)/installed
	$(PIP) "atheris>=3; python_version >= '3.11' and platform_machine == 'x86_64' and sys_platform == 'linux'"
	@touch $@

gpu-check:
	$(PYTHON) scripts/gpu_check $(GPU_CHECK)

gpu-code: install
	OPTPRUNE_TEST_ALL=1 $(BIN)/pytest -q tests/gpu

doctor: install
	$(BIN)/optprune-fast doctor --verify

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find optprune_fast tests -name __pycache__ -type d -prune -exec rm -rf {} +
