# The targets that people and CI use; each brings the environment up to date first.

PYTHON ?= python3
# Named by nobody, the interpreter of an environment that already stands is as good as python3.
KEEP := $(if $(filter file,$(origin PYTHON)),--keep)
RUN := .venv/bin/python

# The order of the tests is drawn from the commit: the same order again on the same commit, and a
# new one on the next. Any other: make test SEED=7
SEED ?= $(shell printf '%d' "0x$$(git rev-parse -q --verify --short=7 HEAD 2>/dev/null || echo 0)")
PYTEST := $(RUN) -m pytest -n 2 --dist worksteal --randomly-seed=$(SEED)

# One thread a process: threads inside a matrix product would only wait for each other.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help setup setup-lava310 setup-lava313 lock toolchains demo test frameworks lint slow bench fuzz paper \
	clean

help:
	@echo "make setup          the environment, .venv (PYTHON=... chooses the interpreter)"
	@echo "make setup-lava310  a second one with Lava as it ships, on Python 3.10"
	@echo "make setup-lava313  a third one with Lava on Python 3.13"
	@echo "make toolchains     cross compiler and emulator from Debian's packages"
	@echo "make demo           a trained network, compiled, validated and reported"
	@echo "make test           lint, types and all but the slow tests (SEED=... orders them)"
	@echo "make frameworks     imports against snnTorch, Norse, SpikingJelly, sinabs and Rockpool (Python 3.11)"
	@echo "make lint           ruff and mypy alone"
	@echo "make slow           the slow tests"
	@echo "make bench          the benchmarks (MNIST=mnist.npz: those on it too)"
	@echo "make fuzz           damaged and malicious files, MINUTES=60 for each importer"
	@echo "make paper          the results table, DATA=folder of mnist.npz and nmnist8_1ms.npz"
	@echo "make lock           pin the newest packages for this PYTHON"
	@echo "make clean          remove what builds and tests leave behind"

setup:
	@$(PYTHON) scripts/setup.py main $(KEEP)

setup-lava310 setup-lava313:
	@$(PYTHON) scripts/setup.py $(@:setup-%=%)

lock:
	@$(PYTHON) scripts/setup.py lock

toolchains:
	@bash scripts/toolchains

demo: setup
	$(RUN) examples/digits/demo.py

lint: setup
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	@# One set of types cannot suit both: numpy 1, which Python 3.10 has here, declares its own differently.
	@if $(RUN) -c 'import numpy; raise SystemExit(numpy.__version__ < "2")'; then \
		echo "$(RUN) -m mypy"; $(RUN) -m mypy; \
	else echo "mypy: left out, it needs the types of numpy 2"; fi

test: lint
	$(PYTEST) -m "not slow"

# The proofs that an import is the network that its framework runs.
frameworks: setup
	QSPINN_REQUIRE=torch,snntorch,norse,spikingjelly,sinabs,rockpool,nirtorch \
		$(PYTEST) tests/test_live_*.py tests/test_nir_snntorch.py tests/test_nir_exports.py

slow: setup setup-lava310 setup-lava313
	$(PYTEST) -m slow

bench: setup
	$(RUN) benchmarks/simulator.py
	@if [ -n "$(MNIST)" ]; then \
		for script in grid explore_mnist qspinn_grid itq_mnist; do \
			$(RUN) benchmarks/$$script.py --data "$(MNIST)" || exit 1; \
		done; \
	fi

fuzz: setup
	$(RUN) scripts/fuzz.py --minutes $(or $(MINUTES),60) --seed $(SEED) --corpus out/fuzz

paper: setup
	@test -n "$(DATA)" || { echo "make paper DATA=FOLDER, with mnist.npz and nmnist8_1ms.npz"; exit 2; }
	$(RUN) benchmarks/paper.py --data "$(DATA)" --readme README.md
	$(RUN) benchmarks/paper_curves.py --data "$(DATA)" --out out/paper --svg benchmarks/curves.svg \
		--page benchmarks/README.md

clean:
	rm -rf build dist .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@# What `make paper` found took hours.
	find out -mindepth 1 -maxdepth 1 ! -name paper -exec rm -rf {} + 2>/dev/null || true
	find qspinn backends templates tests scripts examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
