PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Most of the tests' time is compilation, which takes one core.
WORKERS ?= -n 2 --dist worksteal

.PHONY: parity test proof quick lint docs install clean

parity: $(VENV)/installed
	$(BIN)/parity run $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

# The long proofs, and nothing else.
proof: $(VENV)/installed
	$(BIN)/python -m pytest -m proof $(WORKERS) $(ARGS)

# A few tests that touch everything, for an environment of another Python.
quick: $(VENV)/installed
	$(BIN)/python -m pytest -m quick $(WORKERS) $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/pyright

# The pages and the public names' docstrings as a site, in site/. Needs no network.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet $(ARGS)

install: $(VENV)/installed

# Installs again only when pyproject.toml changed.
$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) site *.egg-info
