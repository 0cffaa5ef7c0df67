"""What the tests against services on loopback share."""

from __future__ import annotations

import pytest

import streams_support


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path, monkeypatch):
    """Keep positions, quarantines and logins of a test to itself."""
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("NUNCIUS_KAFKA_USERNAME", raising=False)
    monkeypatch.delenv("NUNCIUS_KAFKA_PASSWORD", raising=False)
    return tmp_path / "data"


@pytest.fixture(params=["sync", "async"])
def open_any(request):
    """Open a stream in either colour."""
    return streams_support.opener(request.param)


@pytest.fixture
def server(nuncius_kafka):
    """Give the address of a broker."""
    return nuncius_kafka.url.removeprefix("kafka://")


@pytest.fixture
def topic():
    """Give the name of a topic that nobody else uses."""
    return streams_support.new_name()


@pytest.fixture
def group():
    return streams_support.new_name("group")
