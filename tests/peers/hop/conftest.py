"""A broker without a login, for the real hop-client."""

import os

import pytest


@pytest.fixture(scope="session")
def broker():
    if not os.environ.get("NUNCIUS_TEST_HOP"):
        pytest.skip("NUNCIUS_TEST_HOP is not set: the job `nox -s hop` runs these tests (PyPI)")
    pytest.importorskip("hop", reason="hop-client 0.13.0 is not installed; `nox -s hop` does it")
    from nuncius import Sandbox

    with Sandbox() as box:
        yield box.kafka


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))
