# Everything a fresh machine with Python 3.11+, make and pip needs: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin

SITE := $(BIN)/sphinx-build -q -E -W --keep-going docs site

.PHONY: demo test docs soundness conformance fuzz kills install clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,docs,report,benchmarks]"
	touch $@

demo: install
	$(BIN)/python -m models.demo

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(SITE)
	$(BIN)/python -m pytest

# Built from scratch each time: a page that was read before would not repeat its warnings, which are errors.
docs: install
	$(SITE)
	@echo "open site/index.html"

# 20,000 random small nets against brute force; a tenth of it is in the tests.
soundness: install
	$(BIN)/python -m benchmarks.soundness

conformance: install
	$(BIN)/python -m benchmarks.conformance

fuzz: install
	$(BIN)/python -m benchmarks.fuzz --count 10000 --jobs 2

kills: install
	$(BIN)/python -m benchmarks.kills --count 100

clean:
	rm -rf .venv build demo site *.egg-info
