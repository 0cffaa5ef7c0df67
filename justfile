# The daily words; `just` lists them. They use the environment that is active.

_list:
    @just --list --unsorted

# Install nuncius and its tools into the active environment
setup:
    python -m pip install -e ".[dev]"

# Run tests: `just test`, `just test tests/unit -k ztf`
test *arguments:
    python -m pytest {{arguments}}

# Everything that is quick: style, types, imports, unit tests
check: lint types imports (test "tests/unit" "tests/architecture")

# Style and form
lint:
    ruff check .
    ruff format --check .
    python tools/make_sync.py --check

# Mend style and form, and make the sync twins again
fix:
    python tools/make_sync.py
    ruff check --fix .
    ruff format .

# Types, strictly
types:
    mypy

# Who may import whom
imports:
    lint-imports

# Build the documentation into docs/_build/html
docs:
    sphinx-build -W --keep-going -b html docs docs/_build/html

# How fast it is
bench *arguments:
    python -m benchmarks {{arguments}}

# What is checked before a change is merged, in environments of its own
ci:
    .ci/run

# All that takes too long for every change
nightly:
    nox -s nightly
