# Deepfake Shield. `make` alone lists what there is; `make demo` and `make test` need nothing but Python 3.11 or newer.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo up test lint types imports suite torch-suite train-smoke evaluate chaos bench-queue million ssrf fuzz bench-decode webhook-storm pictures audit lock clean \
        bench .venv .venv-dev .venv-training .venv-baselines require-python

# Any Python 3.11 to 3.13 runs the system; training is for 3.11 alone. Another one: make demo PYTHON=/path/to/python3
PYTHON := $(shell scripts/find-python 3.11 3.13)
PYTHON311 := $(shell scripts/find-python 3.11 3.11)

DEV := .venv-dev/bin
TRAINING := .venv-training/bin

# Tests that need torch; they run in the training environment.
TORCH_TESTS = tests/training $(wildcard tests/pipeline/test_torch_*.py)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv ## scan the sample photos through the whole system and print the verdicts
	@.venv/bin/python samples/demo.py

up: .venv ## start the system and keep it running; Ctrl-C stops it
	@.venv/bin/python -m shield up

test: lint types imports suite torch-suite ## run linters, types, import contracts and every test

lint: .venv-dev ## check style and format (mend with: .venv-dev/bin/ruff check --fix; .venv-dev/bin/ruff format)
	$(DEV)/ruff check
	$(DEV)/ruff format --check

types: .venv-dev .venv-training ## check types, strictly
	$(DEV)/mypy api shield worker pipeline migrations benchmarks chaos clients/python samples/demo.py tests \
	    --exclude '^tests/training/' --exclude '^tests/pipeline/test_torch_'
ifneq ($(PYTHON311),)
	$(TRAINING)/mypy training samples/make.py $(TORCH_TESTS)
endif

imports: .venv-dev
	$(DEV)/lint-imports

# Tests wait as much as they work: more processes than cores pay. A file's tests stay together, for they share fixtures.
TEST_PROCESSES := 3

suite: .venv-dev .venv-training .venv-baselines
	$(DEV)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --max-worker-restart=0 --ignore=tests/training --ignore-glob='*/test_torch_*.py'

torch-suite: .venv-training
ifneq ($(PYTHON311),)
	$(TRAINING)/python -m pytest $(TORCH_TESTS)
endif

train-smoke: .venv-training ## search, train, export and evaluate on a small slice of the data, in minutes
	$(TRAINING)/python -m training smoke

evaluate: .venv-training ## measure the shipped weights on every kind of fake in the data folder: table, pictures, bars
	$(TRAINING)/python -m training prepare
	$(TRAINING)/python -m training report

# How much is broken: make chaos IMAGES=100000 FAULTS=500 SEED=2 DATABASE=postgresql REPORT=docs/chaos.md
IMAGES := 3000
FAULTS := 52
SEED := 1
DATABASE := both
REPORT :=

chaos: .venv-dev ## kill, freeze, fill and flush everything while images are scanned, then check every promise
	@$(DEV)/python -m chaos --images $(IMAGES) --faults $(FAULTS) --seed $(SEED) --database $(DATABASE) \
	    $(if $(REPORT),--out $(REPORT))

# Levels: make bench LEVELS="model pipeline system growth"; the long job: make bench LEVELS=long BENCH_IMAGES=100000
LEVELS :=
BENCH_IMAGES := 100000

bench: .venv-dev .venv-training .venv-baselines ## measure the speed of networks, pipeline and system beside others: table, bars
	@$(DEV)/python -m benchmarks.bench $(LEVELS) --images $(BENCH_IMAGES) $(if $(REPORT),--out $(REPORT))

bench-queue: .venv-dev ## measure what the queue costs on PostgreSQL and SQLite, beside a task an image: table, bars
	@$(DEV)/python -m benchmarks.queue --out docs/bench-queue.json

million: .venv-dev ## send a manifest of a million lines through the whole system, with stubs for the networks
	@$(DEV)/python -m benchmarks.million

ssrf: .venv-dev ## try to lead a request to this machine, in every way that we know, and print the bars
	@$(DEV)/python -m benchmarks.ssrf

# How many, from which seed, and where to write the page: make fuzz MUTANTS=100000 SEED=1 REPORT=docs/fuzz.md
MUTANTS := 2000

fuzz: .venv-dev ## damage images at random, have them scanned, and print the bars
	@$(DEV)/python -m benchmarks.fuzz --mutants $(MUTANTS) --seed $(SEED) $(if $(REPORT),--out $(REPORT))

bench-decode: .venv-dev ## measure what decoding in confined children costs, beside threads of the same process
	@$(DEV)/python -m benchmarks.decoding

webhook-storm: .venv-dev ## send 10,000 webhooks to receivers that fail, and time others beside dead ones
	@$(DEV)/python -m benchmarks.webhook_storm

pictures: .venv-dev ## take the pictures of the console that docs/moderating.md shows
	@$(DEV)/python scripts/pictures.py

audit: .venv-dev ## ask whether a locked dependency has a known hole, and write the bill of materials to var/sbom.json
	@$(DEV)/python scripts/audit.py requirements/runtime.txt
	@mkdir -p var
	@$(DEV)/cyclonedx-py requirements requirements/runtime.txt --of JSON --sv 1.6 --validate -o var/sbom.json
	@echo "bill of materials (CycloneDX): var/sbom.json"

lock: .venv-dev ## resolve pyproject.toml's groups anew into requirements/*.txt, newest releases first
	@for group in runtime dev gpu training baselines; do \
	    case $$group in \
	        runtime) extra="--no-config" ;; \
	        dev | gpu) extra="--no-config --constraint requirements/runtime.txt" ;; \
	        training) extra="" ;; \
	        baselines) extra="--override requirements/baselines-overrides.txt" ;; \
	    esac; \
	    echo "locking $$group"; \
	    $(DEV)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	        --no-header --no-emit-index-url $$extra --group $$group --output-file requirements/$$group.txt || exit 1; \
	done

clean: ## remove environments, caches and everything that running left in var/
	rm -rf .venv .venv-dev .venv-training .venv-baselines .venv*.lock var \
	    .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Shared environments stay in $${XDG_CACHE_HOME:-$$HOME/.cache}/deepfake-shield; remove that folder to free the space."

require-python:
	@test -n "$(PYTHON)" || { \
	    echo "Deepfake Shield needs Python 3.11, 3.12 or 3.13 with its venv module, and found none." >&2; \
	    echo "Debian and Ubuntu: apt install python3 python3-venv. macOS: brew install python@3.13." >&2; \
	    echo "It is elsewhere? Say: make demo PYTHON=/path/to/python3" >&2; \
	    exit 1; }

# What the system runs on, in this folder. Each environment is made anew when its lock has changed.
.venv: require-python
	@$(PYTHON) scripts/install.py .venv requirements/runtime.txt "about a minute, 0.5 GB"

# The others are links into the user's cache: a fresh clone with the same locks finds them there.
.venv-dev: require-python
	@$(PYTHON) scripts/install.py .venv-dev requirements/dev.txt "about a minute, 0.8 GB" --cached

.venv-training:
ifneq ($(PYTHON311),)
	@$(PYTHON311) scripts/install.py .venv-training requirements/training.txt "two to ten minutes, 6 GB: it brings torch" --cached
else ifeq ($(CI),true)
	@echo "Python 3.11 was not found, so the training tests cannot run: a failure in CI." >&2; exit 1
else
	@echo "Python 3.11 was not found: the training and torch tests are skipped." >&2
endif

.venv-baselines:
ifneq ($(PYTHON311),)
	@$(PYTHON311) scripts/install.py .venv-baselines requirements/baselines.txt "a minute, 0.4 GB" --cached
else ifeq ($(CI),true)
	@echo "Python 3.11 was not found, so the other detectors cannot be measured: a failure in CI." >&2; exit 1
else
	@echo "Python 3.11 was not found: the other detectors cannot be measured." >&2
endif
