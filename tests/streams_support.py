"""What the tests of streams share: small packets, plain Kafka clients to check with, and a transport that plays a script."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from nuncius import open_stream
from nuncius.aio import open_stream as open_async_stream
from nuncius.streams import Stream
from nuncius.streams.bounds import Stop
from nuncius.streams.engine import Engine
from nuncius.streams.quarantine import Quarantine
from nuncius.streams.reading import PacketReader
from nuncius.streams.rules import Rules
from nuncius.streams.transport import End, Message, Transport

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from mock_cluster import MockCluster as MockCluster  # noqa: PLC0414

# The newer group protocol: with it the mock cluster lets a member in at once, and not after three seconds.
QUICK = {"group.protocol": "consumer"}
PARTITIONS = 4  # what the mock cluster gives to a topic that it makes by itself


def packet(number, **more):
    """Make a small packet."""
    return json.dumps({"candid": number, "objectId": f"A{number}", **more}).encode()


def packets(count, *, first=0):
    return [packet(number) for number in range(first, first + count)]


def ids(alerts):
    return [alert.alert_id for alert in alerts]


def new_name(kind="topic"):
    return f"{kind}-{secrets.token_hex(4)}"


# Plain clients ------------------------------------------------------------------------------------------------------


def produce(server, topic, values, *, partition=None, timestamp_ms=None, headers=None, key=None, **config):
    """Send values with a plain producer, to one partition or to all in turn; return how many were confirmed."""
    from confluent_kafka import Producer

    config = {name.replace("_", "."): value for name, value in config.items()}
    producer = Producer({"bootstrap.servers": server, "log_level": 2, "linger.ms": 1, **config})
    failed = []
    extra = {} if timestamp_ms is None else {"timestamp": timestamp_ms}
    producer.list_topics(topic, timeout=10)  # makes the topic
    sent = 0
    for number, value in enumerate(values):
        where = number % PARTITIONS if partition is None else partition
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    partition=where,
                    headers=headers,
                    key=key,
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                    **extra,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        sent += 1
    assert producer.flush(30) == 0
    assert failed == []
    return sent


def committed(server, group, topic, partitions=range(PARTITIONS)):
    """Ask a plain consumer for the committed offsets, by partition; None where nothing is committed."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": server, "group.id": group, "log_level": 2})
    try:
        found = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=10)
    finally:
        consumer.close()
    return {part.partition: part.offset if part.offset >= 0 else None for part in found}


def committed_sum(server, group, topic):
    return sum(offset or 0 for offset in committed(server, group, topic).values())


def wait_until(condition, *, timeout_s=20.0, step_s=0.02):
    """Wait until a condition holds; return whether it does."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(step_s)
    return bool(condition())


# The two colours ------------------------------------------------------------------------------------------------------


class AsIfAsync:
    """A sync stream with the methods of an async one, so that a test is written once."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __repr__(self):
        return repr(self.stream)

    async def __aenter__(self):
        self.stream.__enter__()
        return self

    async def __aexit__(self, *error):
        return self.stream.__exit__(*error)

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return next(self.stream)
        except StopIteration:
            raise StopAsyncIteration from None

    async def batches(self, *args, **options):
        for batch in self.stream.batches(*args, **options):
            yield batch

    async def poll(self, *args, **options):
        return self.stream.poll(*args, **options)

    async def close(self):
        self.stream.close()

    async def seek(self, where):
        self.stream.seek(where)

    async def lag(self):
        return self.stream.lag()

    async def topics(self):
        return self.stream.topics()


def opener(colour):
    """Return `open_stream` of a colour; the sync streams can be awaited too."""

    def open_any(url, **options):
        if colour == "async":
            return open_async_stream(url, **options)
        return AsIfAsync(open_stream(url, **options))

    return open_any


async def take(stream, count):
    """Read some alerts."""
    return [await anext(aiter(stream)) for _ in range(count)]


async def read_all(stream):
    return [alert async for alert in stream]


# A transport that plays a script --------------------------------------------------------------------------------------

TOPIC = "night"


def message(offset, value=None, *, partition=0, timestamp_ms=None):
    value = packet(offset) if value is None else value
    return Message(TOPIC, partition, offset, value, timestamp_ms)


def messages(count, *, first=0, partition=0):
    return [message(offset, partition=partition) for offset in range(first, first + count)]


def end(partition=0):
    return End(TOPIC, partition)


class ScriptedTransport(Transport):
    """Gives what it is told to give, one list for each `receive`, and keeps what it is told.

    A step may also be an exception, which is raised, or a function, which is called with the transport.
    """

    service = "script"

    def __init__(self, script, *, partitions=1, ends=False, start=0):
        self.script = list(script)
        self.ends = ends
        self.partitions = frozenset((TOPIC, number) for number in range(partitions))
        self.start = start
        self.stored = {}
        self.closed_with = None
        self.calls = []
        self.listener = None

    def connect(self, listener, timeout_s):
        self.listener = listener
        listener.assigned(dict.fromkeys(sorted(self.partitions), self.start))

    def receive(self, n, timeout_s):
        if not self.script or self.calls[-1:] == ["pause"]:
            time.sleep(min(timeout_s, 0.01))
            return []
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            return step(self) or []
        return step

    def store(self, positions):
        self.stored.update(positions)
        return True

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")

    def close(self, positions):
        self.closed_with = dict(positions)


def scripted(script, folder, **options):
    """Make a stream on a script; return both."""
    given = {name: options.pop(name) for name in ("partitions", "ends", "start") if name in options}
    limit = options.pop("quarantine_limit_bytes", 10**9)
    transport = script if isinstance(script, Transport) else ScriptedTransport(script, **given)
    rules = {
        "acknowledge": "on_next",
        "on_error": "quarantine",
        "max_unacknowledged": 10_000,
        "validate": False,
        "connect_timeout_s": 5,
        "stop": Stop(),
        "read": PacketReader(options.pop("schema", None)),
    } | options
    engine = Engine(transport, Rules(**rules), Quarantine(folder, limit))
    return Stream(engine, "script://"), transport


# Programs of their own ------------------------------------------------------------------------------------------------


def run_program(text, *arguments, wait=True, **environment):
    """Run a program in a process of its own; with `wait=False` return the running process."""
    command = [sys.executable, "-W", "ignore", "-c", text, *map(str, arguments)]
    surroundings = os.environ | environment
    if wait:
        return subprocess.run(command, capture_output=True, text=True, timeout=50, env=surroundings)
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=surroundings,
    )


def line_of(process):
    """Read one line that a running program prints."""
    line = process.stdout.readline().strip()
    if not line:
        process.wait(10)
        raise AssertionError(process.stderr.read())
    return line


def end_program(process):
    if process.poll() is None:
        process.kill()
    process.wait(10)
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()
