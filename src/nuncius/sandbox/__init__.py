"""Services on loopback, for the demo, the documentation, and your own tests.

>>> with Sandbox() as box:  # doctest: +SKIP
...     box.kafka.publish("alerts", synthetic_alerts(100))
...     with nuncius.open_stream(f"{box.kafka.url}/alerts", stop="end") as stream:
...         print(sum(1 for alert in stream))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Self

from nuncius.sandbox.kafka import SandboxKafka

if TYPE_CHECKING:
    from types import TracebackType

    from nuncius.sandbox.antares import SandboxAntares
    from nuncius.sandbox.dserver import SandboxDServer
    from nuncius.sandbox.front import KafkaFront
    from nuncius.sandbox.kowalski import SandboxKowalski
    from nuncius.sandbox.loci import SyntheticLocus, synthetic_loci
    from nuncius.sandbox.pubsub import SandboxPubSub
    from nuncius.sandbox.sky import SyntheticSky, synthetic_alerts
    from nuncius.sandbox.store import SandboxStore

__all__ = [
    "KafkaFront",
    "Sandbox",
    "SandboxAntares",
    "SandboxDServer",
    "SandboxKafka",
    "SandboxKowalski",
    "SandboxPubSub",
    "SandboxStore",
    "SyntheticLocus",
    "SyntheticSky",
    "synthetic_alerts",
    "synthetic_loci",
]

# What most programs don't need loads when it is touched.
_LATER = {
    "KafkaFront": "nuncius.sandbox.front",
    "SandboxAntares": "nuncius.sandbox.antares",
    "SandboxDServer": "nuncius.sandbox.dserver",
    "SandboxKowalski": "nuncius.sandbox.kowalski",
    "SandboxPubSub": "nuncius.sandbox.pubsub",
    "SandboxStore": "nuncius.sandbox.store",
    "SyntheticLocus": "nuncius.sandbox.loci",
    "SyntheticSky": "nuncius.sandbox.sky",
    "synthetic_alerts": "nuncius.sandbox.sky",
    "synthetic_loci": "nuncius.sandbox.loci",
}


class Sandbox:
    """Services on loopback; each starts when its attribute is first touched, and all stop at the end of the block."""

    def __init__(self) -> None:
        self._kafka: SandboxKafka | None = None
        self._kowalski: SandboxKowalski | None = None
        self._antares: SandboxAntares | None = None
        self._store: SandboxStore | None = None
        self._dserver: SandboxDServer | None = None
        self._pubsub: SandboxPubSub | None = None

    @property
    def kafka(self) -> SandboxKafka:
        """A Kafka broker."""
        if self._kafka is None:
            self._kafka = SandboxKafka()
        return self._kafka

    @property
    def kowalski(self) -> SandboxKowalski:
        """A Kowalski server, with alerts of the synthetic survey and a reference catalogue.

        Raises
        ------
        MissingExtraError
            If starlette or uvicorn is not installed.
        """
        if self._kowalski is None:
            from nuncius.sandbox.kowalski import SandboxKowalski

            self._kowalski = SandboxKowalski()
        return self._kowalski

    @property
    def antares(self) -> SandboxAntares:
        """An ANTARES, with loci of the synthetic sky: Kafka with TLS and a login, and the REST interface.

        Raises
        ------
        MissingExtraError
            If trustme, starlette or uvicorn is not installed.
        """
        if self._antares is None:
            from nuncius.sandbox.antares import SandboxAntares

            self._antares = SandboxAntares()
        return self._antares

    @property
    def store(self) -> SandboxStore:
        """An object store: plain HTTP, S3 and Google's interface, with faults on demand."""
        if self._store is None:
            from nuncius.sandbox.store import SandboxStore

            self._store = SandboxStore()
        return self._store

    @property
    def dserver(self) -> SandboxDServer:
        """A dserver, with data sets of the synthetic sky; the bytes of their items are in the object store.

        Raises
        ------
        MissingExtraError
            If starlette, uvicorn, PyJWT or cryptography is not installed.
        """
        if self._dserver is None:
            from nuncius.sandbox.dserver import SandboxDServer

            self._dserver = SandboxDServer(store=self.store)
        return self._dserver

    @property
    def pubsub(self) -> SandboxPubSub:
        """A Google Pub/Sub, with the topics of Pitt-Google and a subscription to one of them.

        Raises
        ------
        MissingExtraError
            If google-cloud-pubsub is not installed.
        """
        if self._pubsub is None:
            from nuncius.sandbox.pubsub import SandboxPubSub

            self._pubsub = SandboxPubSub()
        return self._pubsub

    def close(self) -> None:
        """Stop all services."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None
        if self._dserver is not None:
            self._dserver.close()
            self._dserver = None
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._antares is not None:
            self._antares.close()
            self._antares = None
        if self._kowalski is not None:
            self._kowalski.close()
            self._kowalski = None
        if self._kafka is not None:
            self._kafka.close()
            self._kafka = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        services = (self._kafka, self._kowalski, self._antares, self._store, self._dserver, self._pubsub)
        running = [repr(service) for service in services if service is not None]
        return f"<Sandbox: {', '.join(running) or 'nothing started yet'}>"


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'nuncius.sandbox' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
