"""A server that speaks MongoDB's wire protocol: FerretDB with its SQLite back end, built by Go, on loopback."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "ferretdb.py"


def _tool():
    spec = importlib.util.spec_from_file_location("ferretdb", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    if not os.environ.get("NUNCIUS_TEST_MONGODB"):
        pytest.skip(
            "NUNCIUS_TEST_MONGODB is not set: the job `nox -s mongodb` runs these tests (Go 1.22, its module proxy)"
        )
    if shutil.which("go") is None:
        pytest.skip("go is not installed: FerretDB is built from its source, which needs Go 1.22 or later")
    return _tool().build(tmp_path_factory.mktemp("ferretdb"))


@pytest.fixture(scope="session")
def server(program):
    with _tool().FerretDB(program) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(program):
    """Return a server that asks for a login: joe, right."""
    with _tool().FerretDB(program, username="joe", password="right") as running, running.client() as client:
        client.kowalski.ZTF_alerts.insert_one({"_id": 1})
        yield running


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
