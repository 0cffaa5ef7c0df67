"""A front for a Kafka broker on loopback: TLS, logging in, what is forbidden, and faults on demand.

It stands before any broker that has none of this, in a process of its own, and gives out its own address for that of
the broker, so that clients stay with it. Whoever has the broker's own address goes past it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nuncius.errors import ConfigurationError, UnreachableError
from nuncius.sandbox.front.certificates import make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from nuncius.sandbox.front.certificates import Certificate

__all__ = ["KafkaFront"]

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


class KafkaFront:
    """A front for a Kafka broker of one node; it is ready when it is made.

    Parameters
    ----------
    server : str
        The broker, as ``host:port``.
    mechanisms : str or iterable of str
        How one logs in: ``PLAIN``, ``SCRAM-SHA-256``, ``SCRAM-SHA-512``, ``OAUTHBEARER``; with none everybody may in.
    users : mapping
        Passwords by name; for OAUTHBEARER, secrets by client id.
    tls : bool
        Whether connections are encrypted.
    certificate : str
        ``good``, ``wrong-host``, ``expired``, or ``foreign``: of another authority than `ssl_ca_location` holds.
    token_lifetime_s : float
        How long the tokens of the token endpoint are good.
    max_session_s : float
        How long a login lasts before it must be renewed; 0 is for ever, or as long as its token is good.

    Attributes
    ----------
    port : int
        Its port.

    Raises
    ------
    ConfigurationError
        If there is no such mechanism or certificate.
    MissingExtraError
        If trustme is not installed and `tls` is wanted.
    UnreachableError
        If the broker does not answer.

    Examples
    --------
    >>> with SandboxKafka() as kafka, KafkaFront(  # doctest: +SKIP
    ...     kafka.url.removeprefix("kafka://"), mechanisms="SCRAM-SHA-512", users={"vera": "rubin"}
    ... ) as front:
    ...     stream = nuncius.open_stream(
    ...         f"kafka://{front.server}/alerts", credentials=("vera", "rubin"),
    ...         ssl_ca_location=front.ssl_ca_location,
    ...     )
    """

    def __init__(
        self,
        server: str,
        *,
        mechanisms: str | Iterable[str] = ("PLAIN",),
        users: Mapping[str, str] | None = None,
        tls: bool = True,
        certificate: Certificate = "good",
        token_lifetime_s: float = 3600.0,
        max_session_s: float = 0.0,
    ) -> None:
        wanted = [mechanisms] if isinstance(mechanisms, str) else list(mechanisms)
        if unknown := set(wanted) - set(MECHANISMS):
            raise ConfigurationError(f"mechanisms={sorted(unknown)}: a front knows {', '.join(MECHANISMS)}")
        host, _, port = server.rpartition(":")
        self._trusted: Path | None = None
        self._closing = contextlib.ExitStack()
        try:
            own = self._write_certificates(certificate) if tls else None
            first = {
                "upstream": [host, int(port)],
                "certificate": own and str(own),
                "token_lifetime_s": token_lifetime_s,
                "behaviour": {
                    "users": dict(users or {}),
                    "mechanisms": wanted,
                    "max_session_s": max_session_s,
                },
            }
            ports = self._start(server, first)
        except BaseException:
            self._closing.close()
            raise
        self.port: int = ports["port"]
        self._token_port: int = ports["token_port"]

    def _write_certificates(self, kind: Certificate) -> Path:
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="nuncius-front-")))
        self._trusted, own = make_certificates(folder, kind)
        return own

    def _start(self, server: str, first: dict[str, Any]) -> dict[str, int]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nuncius.sandbox.front.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._closing.callback(self._stop)
        ports = self._order(first)
        if not ports:
            raise UnreachableError(
                f"the broker at {server} does not answer the front before it", service="kafka"
            )
        return ports

    # Where it is ------------------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The host."""
        return "127.0.0.1"

    @property
    def server(self) -> str:
        """Its address, as ``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def ssl_ca_location(self) -> Path | None:
        """The file with the certificate of the authority to trust, removed at the end; None without TLS."""
        return self._trusted

    @property
    def token_url(self) -> str:
        """The token endpoint of OAUTHBEARER."""
        return f"http://{self.host}:{self._token_port}/oauth2/token"

    # What it does -----------------------------------------------------------------------------------------------------

    def change(
        self,
        *,
        users: Mapping[str, str] | None = None,
        mechanisms: Iterable[str] | None = None,
        forbidden_topics: Iterable[str] | None = None,
        forbidden_groups: Iterable[str] | None = None,
        delay_s: float | None = None,
        stalled: bool | None = None,
        listening: bool | None = None,
        max_session_s: float | None = None,
        token_lifetime_s: float | None = None,
        token_status: int | None = None,
        token_delay_s: float | None = None,
        token_listening: bool | None = None,
    ) -> None:
        """Behave differently from now on; what is not given stays as it is.

        Parameters
        ----------
        users, mechanisms : optional
            Who may log in, and how.
        forbidden_topics, forbidden_groups : iterable of str, optional
            What nobody may use; clients learn of it when they next ask where a topic or the group's coordinator is.
        delay_s : float, optional
            How long each request waits.
        stalled : bool, optional
            Whether requests wait for ever.
        listening : bool, optional
            Whether new connections are taken; those that are there stay.
        max_session_s : float, optional
            How long a login lasts.
        token_lifetime_s : float, optional
            How long new tokens are good.
        token_status : int, optional
            What the token endpoint answers; 200 is a token.
        token_delay_s : float, optional
            How slow it is.
        token_listening : bool, optional
            Whether it takes connections.
        """
        given = {
            "users": None if users is None else dict(users),
            "mechanisms": None if mechanisms is None else list(mechanisms),
            "forbidden_topics": None if forbidden_topics is None else list(forbidden_topics),
            "forbidden_groups": None if forbidden_groups is None else list(forbidden_groups),
            "delay_s": delay_s,
            "stalled": stalled,
            "listening": listening,
            "max_session_s": max_session_s,
            "token_lifetime_s": token_lifetime_s,
            "token_status": token_status,
            "token_delay_s": token_delay_s,
            "token_listening": token_listening,
        }
        self._order({"change": {name: value for name, value in given.items() if value is not None}})

    def disconnect(self) -> None:
        """Break all connections."""
        self._order({"disconnect": True})

    def revoke_tokens(self) -> None:
        """Let no token that was given out be good any more; who is logged in stays."""
        self._order({"revoke": True})

    def counts(self) -> dict[str, int]:
        """Return what happened so far.

        Returns
        -------
        dict
            `connections` taken, `logins`, `renewals` of logins, logins `refused`, `token_requests`, `tokens` given out,
            and `errors` of the front itself.
        """
        names = ("connections", "logins", "renewals", "refused", "token_requests", "tokens", "errors")
        return dict.fromkeys(names, 0) | self._order({})

    # The end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop it; its clients lose their connections."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<KafkaFront {self.server}>"

    def _order(self, order: dict[str, Any]) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer else {}

    def _stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=5)
