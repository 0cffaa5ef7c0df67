"""What the tests with faults share: a broker whose faults are under control."""

from __future__ import annotations

import sys

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
def cluster():
    """Give a broker of the test's own that can be made to fail."""
    if sys.platform != "linux":
        pytest.skip("the fault control of the mock cluster needs Linux")
    with streams_support.MockCluster({"alerts": 4, "other": 1}, session_timeout_ms=1000) as running:
        yield running


@pytest.fixture
def server(cluster):
    return cluster.server


@pytest.fixture
def topic():
    return "alerts"


@pytest.fixture
def group():
    return streams_support.new_name("group")
