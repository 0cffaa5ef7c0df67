"""The real antares-client in an environment of its own: it brings another `bson` than pymongo's."""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

CLIENT = ("antares-client[subscriptions]==2.0.2",)
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def client_python(tmp_path_factory):
    """Return the interpreter of the environment that has antares-client."""
    if not os.environ.get("NUNCIUS_TEST_ANTARES"):
        pytest.skip("NUNCIUS_TEST_ANTARES is not set: the job `nox -s antares` runs these tests (PyPI)")
    if given := os.environ.get("NUNCIUS_ANTARES_PYTHON"):
        return given
    folder = tmp_path_factory.mktemp("antares-client")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *CLIENT]
    installed = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"antares-client could not be installed: {installed.stderr[-300:]}")
    return str(python)


@pytest.fixture(scope="session")
def box(client_python):
    from nuncius.sandbox import SandboxAntares

    with SandboxAntares() as running:
        yield running
        assert running.front.counts()["errors"] == 0


@pytest.fixture(scope="session")
def client(client_python, box):
    """Have the real client do one thing, in a process of its own, and return what it says."""

    def call(action, *, secret=box.api_secret, **options):
        order = {
            "action": action,
            "key": box.api_key,
            "secret": secret,
            "server": f"{box.host}:{box.port}",
            "ca": str(box.ssl_ca_location),
            **options,
        }
        done = subprocess.run(
            [client_python, str(HERE / "client_program.py")],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=90,
            env=os.environ | {"ANTARES_API_BASE_URL": box.rest_url},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
