# `make demo` shows what minigpt does, `make test` proves it. Both set everything up by themselves.
PYTHON ?= python3
VENV   ?= .venv
# On a machine with a GPU, TORCH may name another build: make install TORCH='torch --index-url ...'
TORCH  ?= $(shell grep '^torch==' requirements.lock)
BIN    := $(VENV)/bin

.PHONY: install demo test lint docs lock clean

install: $(VENV)/.installed

# torch first and with what it needs; then the lock without resolving, so that nothing else decides a version.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "minigpt needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	grep -v '^torch==' requirements.lock > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

demo: install
	$(BIN)/python data/prepare.py dataset=pydocs
	$(BIN)/python train.py explorations=demo
	$(BIN)/python hyperparam_search.py search=demo
	$(BIN)/python analysis/ppa_report.py runs=out/demo out=out/demo hardware=edge_16nm

# Two processes share the tests; what is drawn at random is drawn anew each day.
test: export PAIRINGS_SEED ?= $(shell date +%Y%j)
test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages of the catalogue, from the registry and docs/catalogue/results.
docs: install
	$(BIN)/python -m minigpt report catalogue

# Write the lock from what is installed in $(VENV): what was tested is what others get.
lock:
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -vE '^(minigpt|pip|nvidia-|triton)' | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' > requirements.lock

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache
