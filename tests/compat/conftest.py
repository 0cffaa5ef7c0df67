"""Kowalski on loopback with the catalogs, the object and the positions of which penquins' documentation speaks."""

from __future__ import annotations

import penquins_support
import pytest

from nuncius.compat.penquins import Kowalski
from nuncius.sandbox.kowalski import SandboxKowalski


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """Keep the logins of whoever runs the tests out of them, and don't wait long for the dead."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"NUNCIUS_KOWALSKI_{name}", raising=False)
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.02)


@pytest.fixture(scope="session")
def archive_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("compat") / "night.db"
    penquins_support.fill(path)
    return path


@pytest.fixture(scope="session")
def running(archive_path):
    with SandboxKowalski(archive=archive_path) as box:
        yield box


@pytest.fixture
def box(running):
    """A server without faults, and an empty list of requests."""
    running.clear_faults()
    running.requests.clear()
    yield running
    running.clear_faults()


@pytest.fixture
def where(box):
    return {"protocol": "http", "host": box.host, "port": box.port}


@pytest.fixture
def kowalski(box, where):
    with Kowalski(token=box.token, **where) as opened:
        box.requests.clear()
        yield opened


@pytest.fixture
def start(archive_path):
    """Start further servers on the same archive."""
    boxes = []

    def start(name, catalogs=None, **options):
        boxes.append(SandboxKowalski(name=name, archive=archive_path, catalogs=catalogs, **options))
        return boxes[-1]

    yield start
    for one in boxes:
        one.kill()  # without waiting for connections that are still open
        one.close()
