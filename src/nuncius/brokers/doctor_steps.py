"""What the doctors of all brokers share: verdicts one after the other, names, connections and TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from nuncius.alerts import Alert
from nuncius.errors import NunciusError, PacketError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuncius.alerts import Origin
    from nuncius.streams.transport import Message, Reader

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one step went.

    Parameters
    ----------
    step : str
        ``settings``, ``name``, ``network``, ``TLS``, ``login``, ``topic``, ``group``, ``subscription`` or ``message``.
    state : {"ok", "failed", "warning", "not tried"}
        How it went.
    text : str
        What was seen.
    cure : str
        What to do, where it failed.
    """

    step: str
    state: Literal["ok", "failed", "warning", "not tried"]
    text: str
    cure: str = ""


def in_order(steps: Sequence[tuple[str, Callable[[], Iterator[Verdict]]]]) -> Iterator[Verdict]:
    """Take named steps one after the other; after a failure the rest are not tried."""
    for number, (_, step) in enumerate(steps):
        failed = False
        for verdict in step():
            yield verdict
            failed = failed or verdict.state == "failed"
        if failed:
            rest = steps[number + 1 :]
            yield from (Verdict(name, "not tried", "needs what failed before") for name, _ in rest)
            return


class Network:
    """Servers, and how far one gets to them.

    Parameters
    ----------
    servers : list of (str, int)
        Hosts and ports.
    timeout_s : float
        How long each step may take.
    tls_help : str
        What is known of their certificates.
    """

    def __init__(self, servers: list[tuple[str, int]], timeout_s: float, tls_help: str = "") -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        self._tls_help = tls_help
        self._reached: list[tuple[str, int]] = []

    def name(self) -> Iterator[Verdict]:
        """Find the addresses."""
        found = 0
        for host, port in self._servers:
            try:
                answers = within(self._timeout_s, partial(_addresses, host, port))
            except (OSError, UnicodeError) as error:
                yield Verdict(
                    "name",
                    self._one_is_enough(),
                    f"{host}: {getattr(error, 'strerror', None) or error}",
                    "check the spelling and, on another network, VPN and DNS",
                )
                continue
            found += 1
            addresses = sorted({str(answer[4][0]) for answer in answers})
            yield Verdict("name", "ok", f"{host} is {', '.join(addresses[:4])}")
        if not found and len(self._servers) > 1:
            yield Verdict("name", "failed", "no server has an address")

    def network(self) -> Iterator[Verdict]:
        """Connect."""
        for host, port in self._servers:
            begin = time.monotonic()
            try:
                socket.create_connection((host, port), self._timeout_s).close()
            except OSError as error:
                reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
                yield Verdict(
                    "network",
                    self._one_is_enough(),
                    f"{host}:{port}: {reason}",
                    "refused: nobody listens there, check the port; no answer: a firewall, ask whether this port is open",
                )
                continue
            self._reached.append((host, port))
            yield Verdict(
                "network",
                "ok",
                f"{host}:{port} accepts connections ({1000 * (time.monotonic() - begin):.0f} ms)",
            )
        if not self._reached and len(self._servers) > 1:
            yield Verdict("network", "failed", "no server accepts a connection")

    def tls(self, make_context: Callable[[], ssl.SSLContext], bundle: object) -> Iterator[Verdict]:
        """Secure the connections, verified with what `bundle` names."""
        try:
            context = make_context()
        except (OSError, ValueError) as error:
            yield Verdict(
                "TLS",
                "failed",
                f"the certificates to verify with can't be read from {bundle}: {error}",
                "give a file of certificates (PEM) with ssl_ca_location= (--ssl-ca-location)",
            )
            return
        for host, port in self._reached:
            yield self._handshake(context, host, port, bundle)

    def _handshake(self, context: ssl.SSLContext, host: str, port: int, bundle: object) -> Verdict:
        try:
            with (
                socket.create_connection((host, port), self._timeout_s) as plain,
                context.wrap_socket(plain, server_hostname=host) as secured,
            ):
                certificate, version = secured.getpeercert() or {}, secured.version()
        except ssl.SSLCertVerificationError as error:
            why = f"{host}:{port}: {error.verify_message} (verified with {bundle})"
            return Verdict("TLS", "failed", why, self._certificate_cure(error.verify_message))
        except (OSError, ValueError) as error:
            return Verdict(
                "TLS",
                "failed",
                f"{host}:{port}: {error}",
                "is this port one for TLS? A plain one answers so",
            )
        if not certificate:
            text = (
                f"{host}:{port}: {version}, and anybody could be at the other end: config= says not to verify"
            )
            return Verdict("TLS", "warning", text)
        until = certificate.get("notAfter", "an unknown time")
        return Verdict("TLS", "ok", f"{host}:{port}: {version}, certificate good until {until}")

    def _certificate_cure(self, reason: str) -> str:
        if "expired" in reason or "not yet valid" in reason:
            return "look at this machine's clock; if it is right, tell the broker's operators"
        if "mismatch" in reason:
            return "use the host name for which the certificate was made"
        hint = f"; {self._tls_help}" if self._tls_help else ""
        return f"name the authority that signed it with ssl_ca_location= (--ssl-ca-location){hint}"

    def _one_is_enough(self) -> Literal["failed", "warning"]:
        return "failed" if len(self._servers) == 1 else "warning"


def verdict_of(message: Message, origin: Origin, reader: Reader, which: str) -> Verdict:
    """Tell whether a message can be read; `which` says which one it is."""
    size = len(message.value or b"")
    try:
        items = reader(message, origin) if message.value is not None else []
        for item in items:
            _ = item.packet
    except SchemaError as error:
        return Verdict("message", "failed", str(error), "give the schemas with schema= (--schema)")
    except PacketError as error:
        cure = "a stream would put it into its quarantine and go on"
        return Verdict("message", "warning", f"{origin} ({size} bytes) can't be read: {error}", cure)
    except NunciusError as error:
        return Verdict("message", "failed", str(error))
    what = ", ".join(map(repr, items[:1])) or "nothing to hand out"
    kind = "alert" if items and isinstance(items[0], Alert) else "message"
    return Verdict("message", "ok", f"the {which} {kind} ({size} bytes): {what}")


def _addresses(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def within(timeout_s: float, ask: Callable[[], T]) -> T:
    """Return what something answers that can't be told itself how long it may take.

    Raises
    ------
    TimeoutError
        If it doesn't in this time.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised again, where somebody waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return found[0]
