"""The command line is run as users run it: in a process of its own."""

import os
import subprocess
import sys

import pytest


class Cli:
    def __init__(self, folder):
        self.folder = folder
        self.environment = {**os.environ, "NUNCIUS_DATA_DIR": str(folder / "data"),
                            "NUNCIUS_CONFIG_DIR": str(folder / "config"), "COLUMNS": "100"}  # fmt: skip

    def __call__(self, *arguments, code=0, timeout=120, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "nuncius.cli", *map(str, arguments)],
            cwd=self.folder, env={**self.environment, **environment}, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """A folder with the night of a small demo, for all tests that only ask."""
    folder = tmp_path_factory.mktemp("night")
    Cli(folder)("demo", "--alerts", "60", "--out", ".")
    return folder / "night.db"
