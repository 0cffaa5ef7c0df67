"""Fixtures for the tests of programs that use nuncius.

`nuncius_sandbox` is a sandbox for the whole session, `nuncius_kafka`, `nuncius_antares`, `nuncius_store`,
`nuncius_dserver` and `nuncius_pubsub` are its services. Nothing is imported or started before a test asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuncius.sandbox import (
        Sandbox,
        SandboxAntares,
        SandboxDServer,
        SandboxKafka,
        SandboxPubSub,
        SandboxStore,
    )


@pytest.fixture(scope="session")
def nuncius_sandbox() -> Iterator[Sandbox]:
    """Give a sandbox; its services start when they are touched and stop after the last test."""
    from nuncius.sandbox import Sandbox

    with Sandbox() as box:
        yield box


@pytest.fixture
def nuncius_kafka(nuncius_sandbox: Sandbox) -> SandboxKafka:
    """Give the sandbox's Kafka broker."""
    return nuncius_sandbox.kafka


@pytest.fixture
def nuncius_antares(nuncius_sandbox: Sandbox) -> SandboxAntares:
    """Give the sandbox's ANTARES."""
    return nuncius_sandbox.antares


@pytest.fixture
def nuncius_store(nuncius_sandbox: Sandbox) -> Iterator[SandboxStore]:
    """Give the sandbox's object store; its faults and its accounts are cleared after the test."""
    store = nuncius_sandbox.store
    store.reset()
    yield store
    store.reset()


@pytest.fixture
def nuncius_dserver(nuncius_sandbox: Sandbox) -> Iterator[SandboxDServer]:
    """Give the sandbox's dserver; what was changed in it is put back after the test."""
    dserver = nuncius_sandbox.dserver
    dserver.reset()
    yield dserver
    dserver.reset()


@pytest.fixture
def nuncius_pubsub(nuncius_sandbox: Sandbox) -> Iterator[SandboxPubSub]:
    """Give the sandbox's Pub/Sub server, with empty topics; its faults are cleared after the test."""
    pubsub = nuncius_sandbox.pubsub
    pubsub.reset()
    yield pubsub
    pubsub.reset()
