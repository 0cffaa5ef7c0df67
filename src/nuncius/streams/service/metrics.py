"""Figures for Prometheus, and a health check, over HTTP.

Source of the text format: Prometheus' "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from nuncius.streams.rules import StreamStats
    from nuncius.streams.service.status import Snapshot

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CLIENT_S = 5.0  # so long a client may take for its request

# Of each stream: the name, what it says, and where it is found.
_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("messages_received", "Messages that came from the broker.", "received"),
    ("received_bytes", "Their bytes.", "received_bytes"),
    ("alerts_handed_out", "Alerts that passed all filters and were handed out.", "handed_out"),
    ("alerts_acknowledged", "Alerts that are in all sinks.", "acknowledged"),
    ("messages_quarantined", "Messages that could not be read and are in the quarantine.", "quarantined"),
    ("messages_skipped", "Messages that could not be read and were skipped.", "skipped"),
    ("alerts_filtered", "Alerts that a filter dropped.", "filtered"),
    ("alerts_duplicate", "Alerts that had come before.", "duplicates"),
)
_GAUGES: tuple[tuple[str, str, Callable[[StreamStats], float]], ...] = (
    ("alerts_waiting", "Alerts in the queue.", lambda stats: stats.waiting),
    ("alerts_unacknowledged", "Alerts handed out and in no sink yet.", lambda stats: stats.unacknowledged),
    ("fetching_paused", "1 while the queue is full and fetching rests.", lambda stats: stats.paused),
    ("connected", "0 while the connection is in trouble.", lambda stats: stats.last_error is None),
)


def prometheus_text(snapshot: Snapshot, *, version: str) -> str:
    """Write a snapshot in Prometheus' text format.

    Parameters
    ----------
    snapshot : Snapshot
        What is told.
    version : str
        The release of nuncius.
    """
    return "".join(f"{line}\n" for line in _lines(snapshot, version))


def _lines(snapshot: Snapshot, version: str) -> Iterator[str]:
    yield from _family("info", "gauge", "The release.", [({"version": version}, 1)])
    yield from _family(
        "start_time_seconds", "gauge", "When it started, since 1970.", [({}, snapshot.started)]
    )
    yield from _family(
        "healthy", "gauge", "0 while something is wrong; /health says what.", [({}, not snapshot.trouble)]
    )
    yield from _family("paused", "gauge", "1 while reading rests.", [({}, snapshot.is_paused)])
    yield from _family("alerts_kept_total", "counter", "Alerts in all sinks.", [({}, snapshot.kept)])
    if snapshot.age_s is not None:
        yield from _family(
            "last_alert_age_seconds", "gauge", "How long ago the last alert came.", [({}, snapshot.age_s)]
        )
    for name, text, attribute in _COUNTERS:
        found = [({"stream": url}, getattr(stats, attribute)) for url, stats in snapshot.streams.items()]
        yield from _family(f"{name}_total", "counter", text, found)
    for name, text, value in _GAUGES:
        yield from _family(
            name, "gauge", text, [({"stream": url}, value(stats)) for url, stats in snapshot.streams.items()]
        )
    lags = [
        ({"topic": topic, "partition": str(number)}, count)
        for (topic, number), count in (snapshot.lag or {}).items()
    ]
    yield from _family("lag_messages", "gauge", "Messages that are not finished.", lags)
    free = [({"folder": folder}, count) for folder, count in snapshot.free_bytes.items()]
    yield from _family("disk_free_bytes", "gauge", "Free space where something is kept.", free)


def _family(
    name: str, kind: str, text: str, samples: Sequence[tuple[dict[str, str], float]]
) -> Iterator[str]:
    """Write the samples of one name; nothing where there are none."""
    if not samples:
        return
    yield f"# HELP nuncius_{name} {text}"
    yield f"# TYPE nuncius_{name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
        yield f"nuncius_{name}{{{inside}}} {_number(value)}" if inside else f"nuncius_{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(float(value))


class MetricsServer:
    """Answers ``GET /metrics`` and ``GET /health`` (200, or 503 while something is wrong).

    There is no login: what it tells (URLs, topics, folders, counts, error texts) is for everybody who can reach it.

    Parameters
    ----------
    address : str
        ``HOST:PORT``, ``:PORT`` or ``PORT``; without a host this machine alone can ask. Port 0 takes a free one.
    snapshot : callable
        Gives what is told; it must not wait.
    version : str
        The release of nuncius.

    Raises
    ------
    ConfigurationError
        If the address makes no sense or can't be listened on.
    """

    def __init__(self, address: str, snapshot: Callable[[], Snapshot], *, version: str) -> None:
        host, port = _parsed(address)
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"--metrics {address}: can't listen there: {error.strerror or error}"
            ) from error
        self._server.answer = lambda path: _answer(path, snapshot(), version)

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._server.server_address[:2]
        shown = str(host)
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="nuncius-metrics", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Callable[[str], tuple[int, str, str]]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes away in the middle is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_S
    server: _Server
    server_version, sys_version = "nuncius", ""

    def do_GET(self) -> None:
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def _send(self, *, with_body: bool) -> None:
        status, kind, text = self.server.answer(self.path.partition("?")[0])
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing: a line every 15 s would bury the rest."""


def _answer(path: str, snapshot: Snapshot, version: str) -> tuple[int, str, str]:
    if path == "/metrics":
        return 200, _CONTENT_TYPE, prometheus_text(snapshot, version=version)
    if path == "/health":
        text = json.dumps({"healthy": snapshot.trouble is None, "status": snapshot.line()})
        return (200 if snapshot.trouble is None else 503), "application/json", text + "\n"
    return 404, "text/plain; charset=utf-8", "there are /metrics and /health\n"


def _parsed(address: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:(?P<host>[^:\[\]]*|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5})", address)
    if match is None or int(match["port"]) > 65535:
        raise ConfigurationError(f"--metrics {address}: write HOST:PORT, such as 127.0.0.1:9464")
    host = (match["host"] or "127.0.0.1").strip("[]")
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ConfigurationError(f"--metrics {address}: {host} is no address") from error
    return host, int(match["port"])
