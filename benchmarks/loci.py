"""Decoding loci of ANTARES (BSON within zlib): what a decoder of our own could gain over pymongo's.

Nobody can gain more than a decoder that costs nothing, so such a one is measured too: the values lie ready. What a
compiled decoder of packets that describe themselves may really cost is shown by msgspec, which makes the same values of
MessagePack; what passing over fields gives, by pymongo's `RawBSONDocument`, which decodes what it is asked for.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.antares import encoded, loci
from benchmarks.measure import Table, check, interleaved
from nuncius import Alert
from nuncius.alerts import packets
from nuncius.alerts.packets import compression, open_packet
from nuncius.alerts.surveys.antares import Antares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_HISTORIES = (0, 15, 60)  # earlier measurements, which make documents of some 3, 35 and 130 kB
_HEAD = 48  # bytes of a document that tell it apart: they hold its length and its name

_ZLIB, _PYMONGO = "zlib alone", "zlib, pymongo's decoder"
_MSGSPEC = "zlib, the same values from MessagePack"
_RAW = "zlib, five fields by RawBSONDocument"
_PACKET, _PACKET_FREE = "Alert.packet", "Alert.packet, if decoding cost nothing"
_FIVE, _FIVE_FREE = "object_id, ra, dec, mjd, mag", "the same, if decoding cost nothing"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    for history in _HISTORIES:
        yield _compared(history, scale)


def _compared(history: int, scale: Scale) -> Table:
    import bson
    import msgspec

    documents = list(loci(scale.of(200, 30), history))
    messages = [encoded(document) for document in documents]
    packed = [msgspec.msgpack.encode(document) for document in documents]
    values = {bson.encode(document)[:_HEAD]: document for document in documents}
    check(len(values) == len(documents), "documents that begin alike")
    reads: dict[str, Callable[[int], Any]] = {
        _ZLIB: lambda i: compression.unzlib(messages[i]),
        _PYMONGO: lambda i: bson.decode(compression.unzlib(messages[i])),
        _MSGSPEC: lambda i: (compression.unzlib(messages[i]), msgspec.msgpack.decode(packed[i]))[1],
        _RAW: lambda i: _raw(compression.unzlib(messages[i])),
        _PACKET: lambda i: _alert(messages[i]).packet,
        _FIVE: lambda i: _five(_alert(messages[i])),
    }
    for name in (_PYMONGO, _MSGSPEC, _PACKET):
        check(all(reads[name](i) == document for i, document in enumerate(documents)), f"values, {name}")
    check(all(reads[_FIVE](i) == _raw(bson.encode(one)) for i, one in enumerate(documents)), "five fields")
    sides = {name: _clock(read, len(messages), scale) for name, read in reads.items()}
    sides[_PACKET_FREE] = _with_values(sides[_PACKET], values)
    sides[_FIVE_FREE] = _with_values(sides[_FIVE], values)
    rates = interleaved(sides, scale.runs)
    size = sum(len(bson.encode(document)) for document in documents) / len(documents) / 1e3
    table = Table(f"Decoding loci of ANTARES, {size:.1f} kB each", "loci/s")
    table.notes.append(f"zlib is that of {compression.zlib.__name__}")
    table.add(_PYMONGO, rates)
    for name in (_ZLIB, _MSGSPEC, _RAW):
        table.add(name, rates, to=_PYMONGO)
    table.add(_PACKET, rates)
    table.add(_PACKET_FREE, rates, to=_PACKET)
    table.add(_FIVE, rates)
    table.add(_FIVE_FREE, rates, to=_FIVE)
    return table


def _alert(message: bytes) -> Alert:
    return Alert(message, open_packet(message), survey=Antares())


def _five(alert: Alert) -> tuple[Any, ...]:
    return alert.object_id, alert.ra, alert.dec, alert.mjd, alert.mag


def _raw(document: bytes) -> tuple[Any, ...]:
    from bson.raw_bson import RawBSONDocument

    locus = RawBSONDocument(document)
    newest = locus["properties"]
    where = locus["id"], locus["ra"], locus["dec"]
    return *where, newest["newest_alert_observation_time"], newest["newest_alert_magnitude"]


def _clock(read: Callable[[int], Any], count: int, scale: Scale) -> Callable[[], float]:
    rounds = scale.of(5, 1)

    def measure() -> float:
        for i in range(count):
            read(i)
        begin = perf_counter()
        for _ in range(rounds):
            for i in range(count):
                read(i)
        return rounds * count / (perf_counter() - begin)

    return measure


def _with_values(measure: Callable[[], float], values: dict[bytes, Any]) -> Callable[[], float]:
    """Measure with a decoder that has all values ready."""

    def measured() -> float:
        with _decoder(lambda body: values[body[:_HEAD]]):
            return measure()

    return measured


@contextmanager
def _decoder(decode: Callable[[bytes], Any]) -> Iterator[None]:
    own = packets._decode_bson
    packets._decode_bson = decode
    try:
        yield
    finally:
        packets._decode_bson = own
