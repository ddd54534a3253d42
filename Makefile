# Everything a person types. `make` alone lists it. Needs Python >= 3.10, a Rust toolchain and a C compiler; each
# target does the rest of the set-up itself, in $(VENV), and skips what is done.

PYTHON ?= python3
VENV ?= .venv
CARGO ?= cargo
SEED ?= 7
SECONDS ?= 120
OUT ?= target/bench
SOAK ?=
FUZZ ?= 1800
VERSIONS ?= 3.10 3.11 3.12 3.13

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := $(VENV)/bin
CHECKED := python benches tests $(wildcard examples)
SOURCES := Cargo.toml Cargo.lock build.rs pyproject.toml $(shell find src proto patches -type f)
# maturin and pip must see our environment, whichever one is active.
IN_VENV := env -u CONDA_PREFIX -u PYTHONHOME -u PYTHONPATH VIRTUAL_ENV=$(abspath $(VENV)) PATH="$(abspath $(BIN)):$$PATH"

# A notebook may take minutes on a busy machine; warnings of the kernel's own packages are not ours.
RUN_NOTEBOOKS = $(IN_VENV) $(BIN)/python -m pytest -o timeout=900 -o filterwarnings=default \
	--nbmake --nbmake-timeout=600 examples/notebooks

.PHONY: help demo test test-versions test-exits test-otel verify fix bench bench-election bench-makespan bench-peers bench-sim bench-runners footprint sim notebooks soak netns fuzz clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo "  PYTHON=python3.12 chooses the interpreter; VENV=dir another environment"

demo: $(VENV)/.installed  ## five nodes elect, work on real files, lose their leader, finish
	$(BIN)/hustings demo

test: $(VENV)/.installed  ## all tests: the Rust core, the order of the house, the Python face
	$(CARGO) test --locked
	$(CARGO) test --locked --quiet --manifest-path patches/base2histogram/Cargo.toml --target-dir target
	$(IN_VENV) $(BIN)/python -m pytest
	$(RUN_NOTEBOOKS)

test-versions: $(VENV)/.maturin  ## wheels, tests and notebooks on each Python found; VERSIONS="3.10 3.13" chooses
	$(IN_VENV) $(BIN)/python tests/versions.py $(VERSIONS)

test-exits: $(VENV)/.installed  ## 200 scripts that end in every state: no abort, no hang, no process left
	$(IN_VENV) EXIT_ROUNDS=8 $(BIN)/python -m pytest tests/python/test_exits.py

test-otel:  ## spans of real nodes reach a collector: the build with the cargo feature otel
	$(CARGO) test --locked --features otel --lib spans
	$(CARGO) test --locked --features otel --test rust spans

verify: $(VENV)/.installed  ## format, lints, types, stubs, licences, advisories; writes nothing
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) $(CARGO) clippy --locked --all-targets --features python -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) $(CARGO) clippy --locked --all-targets --features python,otel -- -D warnings
	$(BIN)/ruff check --no-cache $(CHECKED)
	$(BIN)/ruff format --no-cache --check $(CHECKED)
	$(BIN)/mypy --cache-dir=/dev/null
	MYPYPATH=python $(BIN)/python -m mypy.stubtest hustings._core
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	echo "SKIPPED licences, bans, sources, advisories: cargo-deny is missing (cargo install cargo-deny --locked)"; \
	else $(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources; \
	if $(CARGO) deny --locked fetch db >/dev/null 2>&1; then $(CARGO) deny --locked check --disable-fetch advisories; \
	else echo "SKIPPED advisories: their database cannot be fetched from here"; fi; fi

fix: $(VENV)/.installed  ## format and apply what the linters can mend
	$(CARGO) fmt --all
	$(CARGO) clippy --locked --all-targets --fix --allow-dirty --allow-staged
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

bench: $(VENV)/.installed  ## two minutes: leaders of real processes are killed, frozen and replaced; beside plain Raft
	$(BIN)/python benches/election.py --quick --out $(OUT)

bench-election: $(VENV)/.installed  ## the same at length, with pictures; wants a quiet machine
	$(BIN)/python benches/election.py --out $(OUT)

notebooks: $(VENV)/.installed  ## run the notebooks and keep what they show
	$(RUN_NOTEBOOKS) --overwrite

sim: $(VENV)/.installed  ## imagine a cluster in which everything fails now and then; SEED=7 SECONDS=120
	$(BIN)/hustings sim --seed $(SEED) --seconds $(SECONDS) --mtbf 15 --mttr 3 \
	--kinds kill,freeze,partition,one_way,loss,delay,clock,handover

bench-sim: $(VENV)/.installed  ## ten thousand imagined elections, a virtual day of noise, and how fast time passes
	for section in chaos winners calm speed; do \
	$(BIN)/python benches/simulated_elections.py $$section --out $(OUT); done

bench-makespan: $(VENV)/.installed  ## how near assignment and stealing come to the optimum, imagined and real; and the leader's time
	for section in simulated online real; do $(BIN)/python benches/makespan.py $$section --out $(OUT); done
	$(CARGO) bench --bench leader

bench-runners: $(VENV)/.installed  ## seven ways to take a runner down: heartbeats, outcomes, replacement; wants root
	$(BIN)/python benches/runner_deaths.py --out $(OUT)

footprint: $(VENV)/.installed  ## size of the wheel, import, --help, first result, idle memory and processor
	$(IN_VENV) $(BIN)/maturin build --release --locked --out $(OUT)/wheel
	$(BIN)/python benches/footprint.py --wheel $(OUT)/wheel/hustings-*.whl --out $(OUT)

PEERS := dask=distributed ray=ray celery=celery[redis] taskiq=taskiq,taskiq-redis nats=nats-py

bench-peers: $(VENV)/.installed  ## beside pools, Dask, Ray, Celery, TaskIQ, NATS: same kill, same work; names what is missing
	for peer in $(PEERS); do dir=target/peers/$${peer%%=*}; packages=$${peer#*=}; test -x $$dir/bin/python || \
	{ $(PYTHON) -m venv $$dir && $$dir/bin/pip install --quiet $${packages//,/ }; } || echo "$$peer: not installed"; done
	$(BIN)/python benches/peers/peers.py kill --systems hustings,hustings-disk,pool,dask,ray,celery --out $(OUT)
	$(BIN)/python benches/peers/peers.py pace --out $(OUT)

soak: $(VENV)/.installed  ## 25 minutes: real processes killed at random under load; is anything lost? SOAK="--seconds 60"
	$(BIN)/python benches/soak.py --seed $(SEED) --out $(OUT) $(SOAK)

netns: $(VENV)/.installed  ## five hosts (network namespaces) inside TLS, one joins by token, the leader's is cut off; wants root
	$(BIN)/python -m pytest -rA tests/python/test_namespaces.py

fuzz:  ## an hour: decoders and recovery are fed odd bytes; wants nightly Rust and cargo-fuzz; FUZZ=60 seconds each
	for target in decoders recovery; do \
	$(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $$target -- -max_total_time=$(FUZZ) -max_len=4096; done

clean:  ## remove what was built, the environment included
	$(CARGO) clean
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
	rm -f python/hustings/_core*.so

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "$(PYTHON) is missing or older than 3.10; choose another: make PYTHON=python3.12 ..."; exit 1; }
	@$(CARGO) --version >/dev/null || { echo "cargo is missing; install Rust from https://rustup.rs"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.maturin: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet \
	"$$(sed -n 's/^requires = \["\(maturin[^"]*\)"\]$$/\1/p' pyproject.toml)"
	touch $@

# One release build serves demo and tests. The extras are the tools and everything optional.
$(VENV)/.installed: $(VENV)/.maturin $(SOURCES)
	$(IN_VENV) $(BIN)/maturin develop --release --locked --extras dev,all
	touch $@
