# make demo   everything, end to end, on real digits      make demo ARGS="--exit --json demo.json"
# make test   the tests, three files at a time            make test ARGS="tests/model -q"
# make check  formatting, types, who may import whom
# make docs   the documentation, into site/, with what the program and the measurements say today

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
RUNTIME := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
STAMP := .venv/.setup-$(RUNTIME)

.PHONY: setup demo test check format docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "HippoTune needs Python 3.11 or newer; point PYTHON at one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e ".[$(RUNTIME),data,demo,dev,docs]"
	@rm -f .venv/.setup-* && touch $@

demo: setup
	$(BIN)/hippotune demo $(ARGS)

# Tests wait for processes and clocks a third of their time: three at once keep two cores busy. Files keep their
# order: xdist would put those of few tests last, however long these are.
test: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python -m docs.reference
	$(BIN)/python -m benchmarks.figures
	$(if $(wildcard benchmarks/results/continual/*.json),$(BIN)/python -m benchmarks.report)
	$(if $(wildcard benchmarks/results/serving.json benchmarks/results/budgets.json),$(BIN)/python -m benchmarks.serving.page)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
