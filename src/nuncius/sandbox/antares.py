"""ANTARES on loopback: a Kafka broker with TLS and logins whose topics begin with ``client.``, and the REST interface."""

from __future__ import annotations

import contextlib
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from nuncius.sandbox.front import KafkaFront
from nuncius.sandbox.kafka import SandboxKafka
from nuncius.sandbox.loci import SyntheticLocus, encode_document, synthetic_loci

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from nuncius.sandbox.antares_rest import AntaresRest
    from nuncius.sandbox.faults import SandboxRequest
    from nuncius.sandbox.front.certificates import Certificate
    from nuncius.sandbox.loci import Shape

_PREFIX = "client."


class SandboxAntares:
    """An ANTARES on loopback; it is ready when it is made.

    Its streams hold loci of the synthetic sky, every other message in the older shape.

    Parameters
    ----------
    alerts : int
        How many alerts of the synthetic survey its loci come from; 0 for no loci.
    seed : int
        Of the synthetic sky.
    certificate : str
        That of the broker: ``good``, ``wrong-host``, ``expired`` or ``foreign``.

    Attributes
    ----------
    api_key, api_secret : str
        The login.
    loci : tuple of SyntheticLocus
        What it knows.
    kafka : SandboxKafka
        The broker itself, past which nobody needs a login; its topics have the prefix.
    front : KafkaFront
        What stands before it: faults of connections and logins are ordered there.

    Raises
    ------
    MissingExtraError
        If trustme is not installed; with the first use of the REST interface, if starlette or uvicorn is not.

    Examples
    --------
    >>> with SandboxAntares() as box:  # doctest: +SKIP
    ...     stream = nuncius.open_stream(
    ...         f"{box.url}/extragalactic", credentials=(box.api_key, box.api_secret),
    ...         ssl_ca_location=box.ssl_ca_location, stop="end",
    ...     )
    """

    def __init__(self, *, alerts: int = 120, seed: int = 1, certificate: Certificate = "good") -> None:
        self.api_key, self.api_secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(24)
        self.loci = synthetic_loci(alerts, seed=seed)
        self._closing = contextlib.ExitStack()
        try:
            self.kafka = self._closing.enter_context(SandboxKafka())
            self.front = self._closing.enter_context(
                KafkaFront(
                    f"{self.kafka.host}:{self.kafka.port}",
                    users={self.api_key: self.api_secret},
                    certificate=certificate,
                )
            )
            self._fill()
        except BaseException:
            self._closing.close()
            raise

    def _fill(self) -> None:
        for topic in self.topics:
            here = [locus for locus in self.loci if topic in locus.tags]
            self.publish_raw(
                topic, [locus.encode("old" if number % 2 else "new") for number, locus in enumerate(here)]
            )

    # Where it is ------------------------------------------------------------------------------------------------------

    @property
    def topics(self) -> list[str]:
        """The streams that it has from the start, by the names that users know."""
        return sorted({tag for locus in self.loci for tag in locus.tags})

    @property
    def host(self) -> str:
        """The host of its Kafka."""
        return self.front.host

    @property
    def port(self) -> int:
        """The port of its Kafka."""
        return self.front.port

    @property
    def ssl_ca_location(self) -> Path:
        """The file with the certificate to trust."""
        assert self.front.ssl_ca_location is not None
        return self.front.ssl_ca_location

    @property
    def url(self) -> str:
        """What `open_stream` takes, before ``/topic``."""
        return f"antares://{self.host}:{self.port}"

    @cached_property
    def rest(self) -> AntaresRest:
        """The REST interface; it starts when it is first used, and its faults are ordered there."""
        from nuncius.sandbox.antares_rest import AntaresRest

        return self._closing.enter_context(AntaresRest(self.loci))

    @property
    def rest_url(self) -> str:
        """The REST interface, as antares-client wants it in ANTARES_API_BASE_URL."""
        return self.rest.url

    @property
    def requests(self) -> list[SandboxRequest]:
        """The requests that arrived at the REST interface."""
        return self.rest.requests

    # Messages ---------------------------------------------------------------------------------------------------------

    def publish(
        self, topic: str, loci: Iterable[SyntheticLocus | Mapping[str, Any]], *, shape: Shape = "new"
    ) -> int:
        """Send loci to a stream, which is made if it doesn't exist.

        Parameters
        ----------
        topic : str
            The stream, as users name it.
        loci : iterable of SyntheticLocus or mapping
            Loci, or whole documents, which are sent as they are.
        shape : str
            The shape of the messages: ``new``, ``old``, or ``0.2`` for alerts as they were first documented.

        Returns
        -------
        int
            How many messages the broker confirmed.
        """
        return self.publish_raw(
            topic,
            [
                locus.encode(shape) if isinstance(locus, SyntheticLocus) else encode_document(locus)
                for locus in loci
            ],
        )

    def publish_raw(self, topic: str, values: Iterable[bytes | None], **options: Any) -> int:
        """Send values as they are; the options are those of `SandboxKafka.publish`."""
        return self.kafka.publish(_PREFIX + topic, values, **options)

    # The end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop it."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SandboxAntares {self.url}>"
