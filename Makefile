PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: parity test proof lint clean

parity: $(VENV)/installed
	$(BIN)/python -m parity run $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(ARGS)

# The long proofs, and nothing else.
proof: $(VENV)/installed
	$(BIN)/python -m pytest -m proof $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/pyright

# Installs again only when pyproject.toml changed.
$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) *.egg-info
