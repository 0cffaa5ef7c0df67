"""From the producer's call to the user's code, at the rate of a busy night.

The producer is a process of its own, so that it does not hold up the consumer; it writes its monotonic clock, which
processes of one machine share, into a header.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.kafka import PARTITIONS, TOPIC, broker, plain_consumer
from benchmarks.measure import Goal, Table, check, interleaved
from benchmarks.packets import synthetic
from nuncius.sandbox.front import KafkaFront

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_PER_S = 100
_MESSAGES = 20  # different ones
_HEADER = "sent-ns"
_POLL, _POLL_TLS = "poll()", "poll(), TLS and login"
_OURS = ("Stream", "AsyncStream", "Stream, TLS and login", "Stream, near one of 100,000 targets")
_TARGETS = 100_000
_MECHANISM = "SCRAM-SHA-512"
_USER, _PASSWORD = "reader", secrets.token_urlsafe(12)
_QUANTILES = (0.5, 0.99)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    count = _PER_S * scale.of(10, 3)
    found: dict[str, list[list[float]]] = {}

    def side(name: str, read: Callable[[], list[float]]) -> Callable[[], float]:
        def measure() -> float:
            delays_ms = read()
            check(len(delays_ms) == count, f"{name} got {len(delays_ms)} of {count} messages")
            found.setdefault(name, []).append(sorted(delays_ms))
            return 0.0

        return measure

    with broker() as server, KafkaFront(server, mechanisms=_MECHANISM, users={_USER: _PASSWORD}) as front:
        readers = _readers(server, front, count)
        interleaved({name: side(name, read) for name, read in readers.items()}, scale.runs)
    for quantile in _QUANTILES:
        table = Table(
            f"latency: {quantile:.0%} of {count} alerts of 75 kB, {_PER_S}/s, are in the handler within", "ms"
        )
        measured = {name: [run[int(quantile * count) - 1] for run in runs] for name, runs in found.items()}
        table.add(_POLL, measured)
        table.add(_POLL_TLS, measured, to=_POLL)
        for name in _OURS:
            table.add(name, measured, to=_POLL_TLS if "TLS" in name else _POLL)
        yield table
    goal = Table("latency: the goal, on the same 99 %", "ms")
    for name in _OURS:
        goal.add(name, measured, goal=Goal("≤", 20, "ms"))
    goal.notes.append(
        "the mock cluster answers a fetch that finds nothing only after fetch.wait.max.ms, ours being 10 ms for all "
        "sides; a real broker answers as soon as there is something"
    )
    yield goal


def _readers(server: str, front: KafkaFront, count: int) -> dict[str, Callable[[], list[float]]]:
    near = {"near": _watchlist()}
    tls = {"credentials": (_USER, _PASSWORD), "ssl_ca_location": front.ssl_ca_location}
    login = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": _MECHANISM,
        "sasl.username": _USER,
        "sasl.password": _PASSWORD,
        "ssl.ca.location": str(front.ssl_ca_location),
    }
    plain, async_, secure, watched = _OURS
    return {
        _POLL: lambda: _poll(server, server, count, {}),
        _POLL_TLS: lambda: _poll(front.server, server, count, login),
        plain: lambda: _iterate(server, server, count),
        async_: lambda: asyncio.run(_iterate_async(server, count)),
        secure: lambda: _iterate(front.server, server, count, **tls),
        watched: lambda: _iterate(server, server, count, **near),
    }


def _watchlist() -> Any:
    """Make targets all over the sky, among them the places of all alerts that are sent."""
    import numpy as np

    from nuncius import Alert
    from nuncius.streams.watch import Watchlist

    rng = np.random.default_rng(1)
    places = np.stack([rng.uniform(0, 360, _TARGETS), np.degrees(np.arcsin(rng.uniform(-1, 1, _TARGETS)))], 1)
    alerts = [Alert.from_bytes(raw) for raw in synthetic(_MESSAGES)]
    places[: len(alerts)] = [(alert.ra, alert.dec) for alert in alerts]
    return Watchlist(places, "2 arcsec")


@contextlib.contextmanager
def _producer(server: str, count: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.latency", server, str(count)])
    try:
        yield
        check(process.wait(30) == 0, "the producer failed")
    finally:
        process.kill()
        process.wait()


def _produce(server: str, count: int) -> None:
    from confluent_kafka import Producer

    messages = synthetic(_MESSAGES)
    producer = Producer({"bootstrap.servers": server, "log_level": 2, "linger.ms": 0})
    producer.list_topics(TOPIC, timeout=10)
    begin = time.monotonic() + 0.2
    for number in range(count):
        time.sleep(max(0.0, begin + number / _PER_S - time.monotonic()))
        stamp = str(time.monotonic_ns()).encode()
        producer.produce(
            TOPIC,
            messages[number % len(messages)],
            partition=number % PARTITIONS,
            headers={_HEADER: stamp},
        )
        producer.poll(0)
    producer.flush(30)


def _delay_ms(headers: Any) -> float:
    return (time.monotonic_ns() - int(dict(headers)[_HEADER])) / 1e6


def _poll(server: str, there: str, count: int, login: dict[str, str]) -> list[float]:
    """Read from `server` what is sent to the broker at `there`; they differ where something stands between them."""
    from nuncius.streams.kafka.connection import DEFAULTS

    consumer = plain_consumer(server, DEFAULTS | login, from_end=True)
    delays_ms: list[float] = []
    with _producer(there, count):
        while len(delays_ms) < count:
            message = consumer.poll(30)
            check(message is not None, "poll() got nothing for 30 s")
            delays_ms.append(_delay_ms(message.headers()))
    consumer.close()
    return delays_ms


def _iterate(server: str, there: str, count: int, **options: Any) -> list[float]:
    from nuncius import open_stream

    with (
        open_stream(
            f"kafka://{server}/{TOPIC}", group=False, start="latest", stop=count, **options
        ) as stream,
        _producer(there, count),
    ):
        return [_delay_ms(alert.origin.headers) for alert in stream]


async def _iterate_async(server: str, count: int) -> list[float]:
    from nuncius.aio import open_stream

    async with open_stream(f"kafka://{server}/{TOPIC}", group=False, start="latest", stop=count) as stream:
        with _producer(server, count):
            return [_delay_ms(alert.origin.headers) async for alert in stream]


if __name__ == "__main__":
    _produce(sys.argv[1], int(sys.argv[2]))
