"""Reading alerts from a broker: confluent-kafka alone, our stream, and its two faces, sync and async."""

from __future__ import annotations

import asyncio
import io
from time import perf_counter
from typing import TYPE_CHECKING, Any

import fastavro

from benchmarks import packets
from benchmarks.kafka import PARTITIONS, RETAINED_BYTES, TOPIC, broker, plain_consumer
from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import aio, open_stream
from nuncius.streams.kafka.connection import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.measure import Scale
    from nuncius import Alert

    # Takes partition, offset and the answer of a side.
    See = Callable[[int, int, Any], None]
    # Reads all messages and returns the seconds that it took.
    Read = Callable[[See | None], float]

_CONSUME = "consume(500)"
_CONSUME_DEFAULT = "consume(500), librdkafka's defaults"
_CONSUME_LESS = "consume(200)"
_POLL = "poll(), fastavro.reader"
_POLL_DEFAULT = "poll(), fastavro.reader, librdkafka's defaults"
_OURS = "Stream"
_FIELDS = "Stream, four fields touched"
_PACKET = "Stream, fully decoded"
_ONE = "for alert in stream"
_ONE_ASYNC = "async for alert in stream"
_BATCHES = "for batch in stream.batches()"
_BATCHES_ASYNC = "async for batch in stream.batches()"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    count = scale.of(3000, 600)
    yield _compared(packets.SYNTHETIC, packets.repeated(packets.synthetic(scale.of(500, 100)), count), scale)
    real = packets.real()
    if real:
        fitting = RETAINED_BYTES * len(real) // sum(map(len, real))
        yield _compared(packets.REAL, packets.repeated(real, min(count, fitting)), scale)
    yield _faces("small JSON alerts", packets.small(scale.of(40_000, 5000)), 1, scale)
    yield _faces(packets.SYNTHETIC, packets.repeated(packets.synthetic(scale.of(500, 100)), count), 5, scale)


def _compared(kind: str, messages: list[bytes], scale: Scale) -> Table:
    count = len(messages)
    same: dict[str, Any] = dict(DEFAULTS)
    default = {"log_level": 2}
    with broker(messages) as server:
        # How often the topic is read in a run, so that each lasts about a second; the reader; its answer to a packet.
        readers: dict[str, tuple[int, Read, Callable[[bytes], Any]]] = {
            _CONSUME: (5, lambda see: _consume(server, same, 500, count, see), bytes),
            _CONSUME_DEFAULT: (5, lambda see: _consume(server, default, 500, count, see), bytes),
            _CONSUME_LESS: (5, lambda see: _consume(server, same, 200, count, see), bytes),
            _OURS: (5, lambda see: _iterate(server, count, _nothing, see), bytes),
            _FIELDS: (3, lambda see: _iterate(server, count, _four_fields, see), _four_fields_decoded),
            _PACKET: (1, lambda see: _iterate(server, count, _whole_packet, see), _decoded),
            _POLL: (1, lambda see: _poll(server, same, count, see), _decoded),
            _POLL_DEFAULT: (1, lambda see: _poll(server, default, count, see), _decoded),
        }
        for name, (_, read, expected) in readers.items():
            _check_answers(name, read, messages, expected)
        sides = {name: _rate(read, passes, count) for name, (passes, read, _) in readers.items()}
        measured = interleaved(sides, scale.runs)
    size = sum(map(len, messages)) / count / 1000
    table = Table(
        f"streams: {count} messages of {size:.0f} kB ({kind}) in {PARTITIONS} partitions", "messages/s"
    )
    table.add(_CONSUME, measured)
    table.add(_CONSUME_DEFAULT, measured, to=_CONSUME)
    table.add(_CONSUME_LESS, measured, to=_CONSUME)
    table.add(_OURS, measured, to=_CONSUME, goal=Goal("≥", 0.9))
    table.add(_FIELDS, measured, to=_CONSUME)
    table.add(_POLL, measured)
    table.add(_POLL_DEFAULT, measured, to=_POLL)
    table.add(_PACKET, measured, to=_CONSUME, goal=Goal("≥", 0.7))
    table.add(_PACKET, measured, to=_POLL, goal=Goal("≥", 12))
    table.add(_PACKET, measured, to=_POLL_DEFAULT, goal=Goal("≥", 12))
    table.notes.append("the plain consumers have our settings of librdkafka where nothing else is said")
    return table


def _faces(kind: str, messages: list[bytes], passes: int, scale: Scale) -> Table:
    """Compare the sync and the async stream, one alert at a time and in batches, nothing touched."""
    count = len(messages)
    size = sum(map(len, messages)) / count / 1000
    with broker(messages) as server:
        messages.clear()
        readers: dict[str, Read] = {
            _ONE: lambda see: _iterate(server, count, _nothing, see),
            _ONE_ASYNC: lambda _: asyncio.run(_iterate_async(server, count)),
            _BATCHES: lambda _: _batches(server, count),
            _BATCHES_ASYNC: lambda _: asyncio.run(_batches_async(server, count)),
        }
        for read in readers.values():
            read(None)
        measured = interleaved(
            {name: _rate(read, passes, count) for name, read in readers.items()}, scale.runs
        )
    table = Table(f"streams: sync and async, {count} messages of {size:.1f} kB ({kind})", "messages/s")
    table.add(_ONE, measured)
    table.add(_ONE_ASYNC, measured, to=_ONE, goal=Goal("≥", 0.8))
    table.add(_BATCHES, measured)
    table.add(_BATCHES_ASYNC, measured, to=_BATCHES, goal=Goal("≥", 0.8))
    return table


def _rate(read: Read, passes: int, count: int) -> Callable[[], float]:
    """Return what measures messages/s."""
    return lambda: passes * count / sum(read(None) for _ in range(passes))


def _check_answers(
    name: str,
    read: Read,
    messages: Sequence[bytes],
    expected: Callable[[bytes], Any],
) -> None:
    """Read once, untimed: every message must come, and the first of each partition with the right answer."""
    answers: dict[tuple[int, int], Any] = {}

    def see(partition: int, offset: int, answer: Any) -> None:
        answers[partition, offset] = answer if offset == 0 else None

    read(see)
    places = {divmod(number, PARTITIONS)[::-1]: raw for number, raw in enumerate(messages)}
    check(answers.keys() == places.keys(), f"{name} read {len(answers)} of {len(places)} messages")
    for (partition, offset), answer in answers.items():
        if offset == 0:
            # repr, because NaN does not equal itself.
            wanted = expected(places[partition, offset])
            check(repr(answer) == repr(wanted), f"{name}, partition {partition}")


# The sides. The clock runs from the assignment of the partitions, the connection standing, to the last message: ours
# reads ahead in a thread, and would be given what that thread had done if the clock began with the first message.


def _consume(server: str, config: dict[str, Any], batch: int, count: int, see: See | None) -> float:
    consumer = plain_consumer(server, config)
    begin = perf_counter()
    received = 0
    while received < count:
        messages = consumer.consume(min(batch, count - received), 0.1)
        received += len(messages)
        if see is not None:
            for message in messages:
                see(message.partition(), message.offset(), message.value())
    seconds = perf_counter() - begin
    consumer.close()
    return seconds


def _poll(server: str, config: dict[str, Any], count: int, see: See | None) -> float:
    consumer = plain_consumer(server, config)
    begin = perf_counter()
    received = 0
    while received < count:
        message = consumer.poll(0.1)
        if message is None:
            continue
        packet = _decoded(message.value())
        received += 1
        if see is not None:
            see(message.partition(), message.offset(), packet)
    seconds = perf_counter() - begin
    consumer.close()
    return seconds


def _iterate(server: str, count: int, touch: Callable[[Alert], Any], see: See | None) -> float:
    with open_stream(f"kafka://{server}/{TOPIC}", group=False, stop=count, on_error="raise") as stream:
        begin = end = perf_counter()
        received = 0
        for alert in stream:
            answer = touch(alert)
            received += 1
            if see is not None:
                assert alert.origin is not None
                see(alert.origin.partition, alert.origin.offset, answer)
            if received == count:
                end = perf_counter()
    check(received == count, f"the stream gave {received} of {count} alerts")
    return end - begin


async def _iterate_async(server: str, count: int) -> float:
    async with aio.open_stream(
        f"kafka://{server}/{TOPIC}", group=False, stop=count, on_error="raise"
    ) as stream:
        begin = end = perf_counter()
        received = 0
        async for alert in stream:
            _nothing(alert)
            received += 1
            if received == count:
                end = perf_counter()
    check(received == count, f"the async stream gave {received} of {count} alerts")
    return end - begin


def _batches(server: str, count: int) -> float:
    with open_stream(f"kafka://{server}/{TOPIC}", group=False, stop=count, on_error="raise") as stream:
        begin = end = perf_counter()
        received = 0
        for batch in stream.batches():
            received += len(batch)
            if received == count:
                end = perf_counter()
    check(received == count, f"the batches held {received} of {count} alerts")
    return end - begin


async def _batches_async(server: str, count: int) -> float:
    async with aio.open_stream(
        f"kafka://{server}/{TOPIC}", group=False, stop=count, on_error="raise"
    ) as stream:
        begin = end = perf_counter()
        received = 0
        async for batch in stream.batches():
            received += len(batch)
            if received == count:
                end = perf_counter()
    check(received == count, f"the async batches held {received} of {count} alerts")
    return end - begin


def _nothing(alert: Alert) -> Any:
    return alert.raw


def _four_fields(alert: Alert) -> Any:
    return alert.object_id, alert.ra, alert.dec, alert.mag


def _whole_packet(alert: Alert) -> Any:
    return alert.packet


def _decoded(raw: bytes) -> Any:
    return next(fastavro.reader(io.BytesIO(raw)))


def _four_fields_decoded(raw: bytes) -> Any:
    packet = _decoded(raw)
    candidate = packet["candidate"]
    return packet["objectId"], candidate["ra"], candidate["dec"], candidate["magpsf"]
