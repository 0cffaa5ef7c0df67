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

    from nuncius.sandbox.sky import SyntheticSky, synthetic_alerts

__all__ = ["Sandbox", "SandboxKafka", "SyntheticSky", "synthetic_alerts"]


class Sandbox:
    """Services on loopback; each starts when its attribute is first touched, and all stop at the end of the block."""

    def __init__(self) -> None:
        self._kafka: SandboxKafka | None = None

    @property
    def kafka(self) -> SandboxKafka:
        """A Kafka broker."""
        if self._kafka is None:
            self._kafka = SandboxKafka()
        return self._kafka

    def close(self) -> None:
        """Stop all services."""
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
        running = [] if self._kafka is None else [repr(self._kafka)]
        return f"<Sandbox: {', '.join(running) or 'nothing started yet'}>"


def __getattr__(name: str) -> Any:
    if name in {"SyntheticSky", "synthetic_alerts"}:  # they bring numpy, which a broker does not need
        from nuncius.sandbox import sky

        return getattr(sky, name)
    raise AttributeError(f"module 'nuncius.sandbox' has no attribute {name!r}")
