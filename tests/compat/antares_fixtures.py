"""What the tests of antares-client's interface are given: an ANTARES on loopback that everything finds by the environment."""

from __future__ import annotations

import pytest

from nuncius.compat.antares_client import Client
from nuncius.sandbox import SandboxAntares
from streams_support import QUICK, new_name

NAMES = ("USERNAME", "PASSWORD", "SERVERS", "SSL_CA_LOCATION", "GROUP")


@pytest.fixture(scope="session")
def running_antares():
    with SandboxAntares() as box:
        yield box


@pytest.fixture
def antares(running_antares, tmp_path, monkeypatch):
    """Give an ANTARES that programs find without being told; nobody is logged in."""
    for name in NAMES:
        monkeypatch.delenv(f"NUNCIUS_ANTARES_{name}", raising=False)
    monkeypatch.delenv("API_TIMEOUT", raising=False)
    box = running_antares
    monkeypatch.setenv("NUNCIUS_ANTARES_SERVERS", f"{box.host}:{box.port}")
    monkeypatch.setenv("NUNCIUS_ANTARES_SSL_CA_LOCATION", str(box.ssl_ca_location))
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ANTARES_API_BASE_URL", box.rest_url)
    yield box
    box.rest.clear_faults()


@pytest.fixture
def client(antares):
    """Make clients in a group of their own that join it at once; all are closed at the end."""
    made = []
    group = new_name("group")

    def client(topics, kind=Client, **options):
        login = {"api_key": antares.api_key, "api_secret": antares.api_secret}
        made.append(kind(topics, **{"group": group, "config": QUICK, **login, **options}))
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture
def stream_of(antares):
    """Make a stream of its own for a test, with loci or other values in it; return its name."""

    def stream_of(count=10, *, values=None, shape="new"):
        topic = new_name("stream")
        if values is None:
            antares.publish(topic, antares.loci[:count], shape=shape)
        else:
            antares.publish_raw(topic, values)
        return topic

    return stream_of
