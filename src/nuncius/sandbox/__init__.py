"""Services on loopback, for the demo, the documentation, and your own tests.

>>> with Sandbox() as box:  # doctest: +SKIP
...     box.kafka.publish("alerts", synthetic_alerts(100))
...     with nuncius.open_stream(f"{box.kafka.url}/alerts", stop="end") as stream:
...         print(sum(1 for alert in stream))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from nuncius.sandbox.kafka import SandboxKafka

if TYPE_CHECKING:
    from types import TracebackType

    from nuncius.sandbox.kowalski import SandboxKowalski
    from nuncius.sandbox.sky import SyntheticSky, synthetic_alerts

__all__ = ["Sandbox", "SandboxKafka", "SandboxKowalski", "SyntheticSky", "synthetic_alerts"]


class Sandbox:
    """Services on loopback; each starts when its attribute is first touched, and all stop at the end of the block."""

    def __init__(self) -> None:
        self._kafka: SandboxKafka | None = None
        self._kowalski: SandboxKowalski | None = None

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

    def close(self) -> None:
        """Stop all services."""
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
        running = [repr(service) for service in (self._kafka, self._kowalski) if service is not None]
        return f"<Sandbox: {', '.join(running) or 'nothing started yet'}>"


def __getattr__(name: str) -> Any:
    if name in {"SyntheticSky", "synthetic_alerts"}:  # they bring numpy, which a broker does not need
        from nuncius.sandbox import sky

        return getattr(sky, name)
    if name == "SandboxKowalski":
        from nuncius.sandbox.kowalski import SandboxKowalski

        return SandboxKowalski
    raise AttributeError(f"module 'nuncius.sandbox' has no attribute {name!r}")
