"""Loci of ANTARES over TLS and with a login: the real antares-client, confluent-kafka alone, and ours.

The real one lives in an environment of its own, because it brings a package `bson` that is not pymongo's. The variable
NUNCIUS_ANTARES_PYTHON names the interpreter of one that is there; else one is made, which takes a minute and PyPI.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import tempfile
import venv
import zlib
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import Alert, open_stream
from nuncius.compat.antares_client import Client
from nuncius.sandbox import SandboxAntares
from nuncius.streams.kafka.connection import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.measure import Scale

    # Reads some of the messages.
    Read = Callable[[], "Report"]

_CLIENT = "antares-client[subscriptions]==2.0.2"
_TOPICS = [f"stream{number}" for number in range(4)]  # of four partitions each
_BIG_HISTORY = 13  # earlier measurements, which make a document of some 30 kB

_RAW = "consume(500), nothing decoded"
_REAL = "antares-client 2.0.2, iter()"
_COMPAT = "compat Client, iter()"
_OURS = "Stream, nothing touched"
_FIELDS = "Stream, object_id, ra, dec, mag"
_PACKET = "Stream, whole packet"
_BATCHES = "Stream, whole packet, batches"


@dataclass(frozen=True, slots=True)
class Report:
    """What a side did: messages/s, its CPU time in microseconds a message, and by the name of a locus what it saw."""

    rate: float
    cpu_us: float
    seen: dict[str, Any]


class Clock:
    """Measures from now on."""

    def __init__(self) -> None:
        self._wall, self._cpu = perf_counter(), process_time()

    def report(self, count: int, seen: dict[str, Any]) -> Report:
        """Report so many messages."""
        wall, cpu = perf_counter() - self._wall, process_time() - self._cpu
        return Report(count / wall, cpu / count * 1e6, seen)


# Its clock begins with its first locus, when librdkafka has fetched ahead already.
_PROGRAM = """
import json, sys, time
from importlib.metadata import version
from antares_client import StreamingClient

order = json.load(sys.stdin)
seen, begin, cpu = {}, 0.0, 0.0
with StreamingClient(order["topics"], order["key"], order["secret"], group=order["group"],
                     ssl_ca_location=order["ca"], bootstrap_server=order["server"]) as client:
    for topic, locus in client.iter(order["limit"]):
        begin, cpu = begin or time.perf_counter(), cpu or time.process_time()
        seen[locus.locus_id] = [locus.ra, locus.dec, len(locus.properties)]
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
print(json.dumps({"rate": (len(seen) - 1) / seconds, "cpu_us": 1e6 * cpu / (len(seen) - 1), "seen": seen}))
"""


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    with _python_of_the_client() as python:
        yield from _compared("small", scale.of(40_000, 4000), 0, python, scale)
        yield from _compared("big", scale.of(5000, 800), _BIG_HISTORY, python, scale)


def loci(count: int, history: int = 0) -> Iterator[dict[str, Any]]:
    """Give documents of the newer shape, each with a name of its own, with so many earlier measurements."""
    import numpy as np

    from nuncius.sandbox import synthetic_alerts

    rng = np.random.default_rng(1)
    candidates = [Alert.from_bytes(raw).packet["candidate"] for raw in synthetic_alerts(100)]
    kinds = [{f"ztf_{name}": value for name, value in one.items()} for one in candidates]
    for number in range(count):
        newest = kinds[number % len(kinds)] | {"ztf_magpsf": float(rng.uniform(15, 21))}
        properties = {
            "newest_alert_id": f"ztf_candidate:{number}",
            "newest_alert_magnitude": newest["ztf_magpsf"],
            "newest_alert_observation_time": newest["ztf_jd"] - 2400000.5,
            **newest,
        }
        if history:
            properties["history"] = [
                _noisy(kinds[i % len(kinds)], rng) for i in range(number, number + history)
            ]
        yield {
            "id": f"ANT2026{number:06}",
            "ra": newest["ztf_ra"],
            "dec": newest["ztf_dec"],
            "properties": properties,
            "tags": ["nuclear_transient", "high_snr"][number % 2 :],
            "catalogs": ["gaia_dr3_gaia_source", "2mass_xsc"],
        }


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return a message: zlib and BSON."""
    import bson

    return zlib.compress(bson.encode(document))


def _noisy(record: dict[str, Any], rng: Any) -> dict[str, Any]:
    noise = rng.normal(0, 1e-4, 4).tolist()
    names = ("ztf_ra", "ztf_dec", "ztf_magpsf", "ztf_jd")
    return record | {name: record[name] + change for name, change in zip(names, noise, strict=True)}


def _compared(kind: str, count: int, history: int, python: str | None, scale: Scale) -> Iterator[Table]:
    import bson

    expected = {document["id"]: document for document in loci(count, history)}
    messages = [encoded(document) for document in expected.values()]
    size = sum(len(bson.encode(document)) for document in list(expected.values())[:100]) / 100 / 1000
    cpu: dict[str, list[float]] = {}

    def side(name: str, read: Read) -> Callable[[], float]:
        def measure() -> float:
            report = read()
            cpu.setdefault(name, []).append(report.cpu_us)
            return report.rate

        return measure

    with SandboxAntares(alerts=0) as box:
        for number, topic in enumerate(_TOPICS):
            box.publish_raw(topic, messages[number :: len(_TOPICS)])
        mean = sum(map(len, messages)) / count / 1000
        messages.clear()
        readers = _readers(box, count, python, count // (10 if history else 5))
        for name, (read, answer) in readers.items():
            _check_answers(name, read().seen, expected, answer)
        expected.clear()
        measured = interleaved({name: side(name, read) for name, (read, _) in readers.items()}, scale.runs)
    title = f"{count} {kind} messages of {mean:.1f} kB, documents of {size:.1f} kB, TLS and login"
    times = 8.0 if history else 5.0
    yield _rates(f"antares: {title}", measured, Goal("≥", times))
    yield _times(f"antares: the CPU time of all threads of the consumer, {title}", cpu)


def _rates(title: str, measured: dict[str, list[float]], goal: Goal) -> Table:
    table = Table(title, "messages/s")
    table.add(_RAW, measured)
    table.add(_OURS, measured, to=_RAW, label="consume(500)")
    is_there = _REAL in measured
    if is_there:
        table.add(_REAL, measured, to=_RAW, label="consume(500)")
    for name in (_OURS, _FIELDS, _PACKET, _BATCHES, _COMPAT):
        if is_there:
            table.add(name, measured, to=_REAL, label="antares-client", goal=goal)
        elif name != _OURS:
            table.add(name, measured, to=_RAW, label="consume(500)")
    if is_there:
        table.notes.append(
            "the clocks of both clients begin with the first locus, the others' with the assignment; antares-client reads "
            "only a part of the messages, for the sake of time"
        )
    else:
        table.notes.append(f"{_CLIENT} could not be installed, so it is not compared")
    table.notes.append("the sandbox's TLS and login are in Python, and bound what consume(500) can reach")
    return table


def _times(title: str, cpu: dict[str, list[float]]) -> Table:
    table = Table(title, "µs a message")
    for name in cpu:
        to = _REAL if _REAL in cpu and name != _REAL else None
        table.add(name, cpu, to=to, label="antares-client")
    table.notes.append("of what else the machine does, this knows little")
    return table


def _readers(
    box: SandboxAntares, count: int, python: str | None, some: int
) -> dict[str, tuple[Read, Callable[[dict[str, Any]], Any]]]:
    """Return for each side how it reads, and what it should see of a locus."""
    sides: dict[str, tuple[Read, Callable[[dict[str, Any]], Any]]] = {
        _RAW: (lambda: _consume(box, count), lambda _: None),
        _OURS: (lambda: _iterate(box, count, lambda alert: len(alert.raw) > 0), lambda _: True),
        _FIELDS: (lambda: _iterate(box, count, _four_fields), _four_of),
        _PACKET: (lambda: _iterate(box, count, lambda alert: _seen(alert.packet)), _seen),
        _BATCHES: (lambda: _batches(box, count), _seen),
        _COMPAT: (lambda: _compat(box, count), _seen),
    }
    if python is not None:
        sides[_REAL] = (lambda: _real(box, python, some), _seen)
    return sides


def _check_answers(
    name: str, seen: Mapping[str, Any], expected: Mapping[str, Any], answer: Callable[[dict[str, Any]], Any]
) -> None:
    for locus_id, found in seen.items():
        check(repr(found) == repr(answer(expected[locus_id])), f"{name}, {locus_id}")


def _seen(locus: dict[str, Any]) -> list[Any]:
    return [locus["ra"], locus["dec"], len(locus["properties"])]


def _four_fields(alert: Alert) -> tuple[Any, ...]:
    return alert.object_id, alert.ra, alert.dec, alert.mag


def _four_of(locus: dict[str, Any]) -> tuple[Any, ...]:
    return locus["id"], locus["ra"], locus["dec"], locus["properties"]["ztf_magpsf"]


# The sides ------------------------------------------------------------------------------------------------------------


def _consume(box: SandboxAntares, count: int) -> Report:
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    login = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": box.api_key,
        "sasl.password": box.api_secret,
        "ssl.ca.location": str(box.ssl_ca_location),
        "bootstrap.servers": f"{box.host}:{box.port}",
        "group.id": f"benchmark-{secrets.token_hex(4)}",
        "enable.auto.commit": False,
    }
    consumer = Consumer(DEFAULTS | login)
    known = consumer.list_topics(timeout=10).topics
    names = [f"client.{topic}" for topic in _TOPICS]
    places = [
        TopicPartition(name, number, OFFSET_BEGINNING) for name in names for number in known[name].partitions
    ]
    consumer.assign(places)
    clock = Clock()
    received = 0
    while received < count:
        received += len(consumer.consume(min(500, count - received), 0.1))
    report = clock.report(count, {})
    consumer.close()
    return report


def _stream(box: SandboxAntares, count: int) -> Any:
    return open_stream(
        f"{box.url}/{','.join(_TOPICS)}",
        credentials=(box.api_key, box.api_secret),
        ssl_ca_location=box.ssl_ca_location,
        group=False,
        stop=count,
        on_error="raise",
    )


def _iterate(box: SandboxAntares, count: int, touch: Callable[[Alert], Any]) -> Report:
    received = 0
    with _stream(box, count) as stream:
        clock = Clock()
        for alert in stream:
            answer = touch(alert)
            received += 1
            if received == count:
                report = clock.report(count, {str(alert.object_id): answer})
    check(received == count, f"the stream gave {received} of {count} loci")
    return report


def _batches(box: SandboxAntares, count: int) -> Report:
    received = 0
    with _stream(box, count) as stream:
        clock = Clock()
        for batch in stream.batches(500, timeout_s=0.1):
            for alert in batch:
                answer = _seen(alert.packet)
            received += len(batch)
            if received == count:
                report = clock.report(count, {str(alert.object_id): answer})
    check(received == count, f"the batches held {received} of {count} loci")
    return report


def _compat(box: SandboxAntares, count: int) -> Report:
    received = 0
    with Client(
        _TOPICS,
        host=box.host,
        port=box.port,
        api_key=box.api_key,
        api_secret=box.api_secret,
        ssl_ca_location=box.ssl_ca_location,
        group=f"benchmark-{secrets.token_hex(4)}",
        config={"group.protocol": "consumer"},
    ) as client:
        for _, locus in client.iter(count):
            if not received:
                clock = Clock()
            answer = _seen(locus)
            received += 1
        report = clock.report(received - 1, {locus["id"]: answer})
    check(received == count, f"the compat Client gave {received} of {count} loci")
    return report


def _real(box: SandboxAntares, python: str, some: int) -> Report:
    order = {
        "topics": _TOPICS,
        "key": box.api_key,
        "secret": box.api_secret,
        "server": f"{box.host}:{box.port}",
        "ca": str(box.ssl_ca_location),
        "group": f"benchmark-{secrets.token_hex(4)}",
        "limit": some,
    }
    command = [python, "-c", _PROGRAM]
    answer = subprocess.run(command, input=json.dumps(order), stdout=subprocess.PIPE, check=True, text=True)
    report = Report(**json.loads(answer.stdout))
    check(len(report.seen) == some, f"antares-client gave {len(report.seen)} of {some} loci")
    return report


@contextlib.contextmanager
def _python_of_the_client() -> Iterator[str | None]:
    """Give an interpreter that has antares-client; None if there is no way to it."""
    if given := os.environ.get("NUNCIUS_ANTARES_PYTHON"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="nuncius-antares-client-") as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", _CLIENT]
        yield python if subprocess.run(command, check=False).returncode == 0 else None
