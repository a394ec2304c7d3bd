# Each target sets up what it needs. A second call finds the stamp of the first and starts at once.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
RUN_FOLDER ?=
DATA ?=

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types imports unit long bench faults table recipes fuzz format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## install, then search, retrain and report on the embedded dataset, in a fresh folder runs/demo-N
	@out='$(RUN_FOLDER)'; n=1; \
	if [ -z "$$out" ]; then while [ -e "runs/demo-$$n" ]; do n=$$((n + 1)); done; out="runs/demo-$$n"; fi; \
	mkdir -p "$$(dirname "$$out")"; \
	OMP_NUM_THREADS=1 $(BIN)/gradnas run --preset demo --out "$$out"  # digits are too small to share among threads

test: ## lint, format check, types, imports, then the tests
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory imports
	@$(MAKE) --no-print-directory unit

lint: $(VENV)/.installed-dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy, strict, on src
	$(BIN)/mypy

imports: $(VENV)/.installed-dev ## import-linter: dependencies point one way
	$(BIN)/lint-imports

# One thread per worker: two workers that each start a thread per core are slower than one.
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

unit: $(VENV)/.installed-dev ## the tests; for a part: make unit ARGS="tests/arch -k genotype"
	$(PYTEST) -m 'not long' $(ARGS)

long: $(VENV)/.installed-dev ## tests that make test leaves out: more of what others do
	$(PYTEST) -m long

bench: $(VENV)/.installed ## run the step benchmarks, scaling, report and checkpoints (half an hour)
	@for script in benchmarks/*_step.py benchmarks/scaling.py benchmarks/report.py benchmarks/checkpointing.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

faults: $(VENV)/.installed ## kill runs at 110 moments and resume them, damage their files 500 times (an hour)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python benchmarks/faults.py
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python tests/faults/damage.py

table: $(VENV)/.installed ## all strategies at equal budget, 3 seeds: make table DATA=file.npz (an hour or two)
	@test -n '$(DATA)' || { echo "make table needs a data set: make table DATA=path/to/set.npz" >&2; exit 2; }
	$(BIN)/python benchmarks/strategies_table.py --data '$(DATA)'

recipes: $(VENV)/.installed ## recipes of retraining and hand-designed networks at equal epochs, 3 seeds: make recipes DATA=file.npz (an hour)
	@test -n '$(DATA)' || { echo "make recipes needs a data set: make recipes DATA=path/to/set.npz" >&2; exit 2; }
	$(BIN)/python benchmarks/recipes_table.py --data '$(DATA)'

fuzz: $(VENV)/.installed-dev ## fuzz every reader of files, 100,000 inputs each (half an hour); a part: make fuzz ARGS="npz zip --inputs 1000"
	$(INSTALL) -e ".[fuzz]"
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run_fuzz.py --write $(ARGS)

format: $(VENV)/.installed-dev ## let ruff repair and format the source
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and build folders; the environment and the runs stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gradnas needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu install the package python3-venv." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	@echo "Installing gradnas into $(VENV) (the first time fetches torch, which takes a while)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml
	@echo "Installing gradnas and its development tools into $(VENV) (the first time fetches torch, which takes a while)"
	$(INSTALL) -e ".[dev]"
	@touch $(VENV)/.installed $@
