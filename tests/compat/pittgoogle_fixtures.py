"""What the tests of tom_pittgoogle's interface are given: a Pub/Sub server on loopback that everything finds by itself."""

from __future__ import annotations

import pytest

from nuncius.compat.tom_pittgoogle.consumer_stream_python import ConsumerStreamPython
from nuncius.sandbox.pubsub import SandboxPubSub


@pytest.fixture(scope="session")
def running_pubsub():
    with SandboxPubSub() as box:
        yield box


@pytest.fixture
def no_login(tmp_path, monkeypatch):
    """Keep the logins of whoever runs the tests out of them."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"PITTGOOGLE_{name}", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def pubsub(running_pubsub, no_login, monkeypatch):
    """Give an empty Pub/Sub server that programs find by the environment."""
    box = running_pubsub
    box.reset()
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    yield box
    box.reset()


@pytest.fixture
def consumer(pubsub):
    return ConsumerStreamPython("ztf-loop")
