"""Decoding packets: fastavro and the compiled decoder, all values and a few, and cutouts with and without astropy."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import fastavro

from benchmarks import packets
from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import Alert
from nuncius.alerts.packets import compiled, ocf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.measure import Scale
    from nuncius.alerts.cutouts import Cutout

_READER = "fastavro.reader"
_DATUM = "fastavro.schemaless_reader, schema known"
_FULL, _FULL_PLAIN = "Alert.packet", "Alert.packet, without the compiled decoder"
_FIVE, _FIVE_PLAIN = "object_id, ra, dec, mjd, mag", "the same, without the compiled decoder"
_SCALARS = "four fields named, by the decoder alone"
_QUICK, _ASTROPY = "Cutout.data", "astropy"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    yield _compared(packets.SYNTHETIC, packets.synthetic(scale.of(60, 15)), scale)
    if real := packets.real():
        yield _compared(packets.REAL, real, scale)
        yield _cutouts(real, scale)


def _compared(what: str, raws: Sequence[bytes], scale: Scale) -> Table:
    names = frozenset({"objectId", "candidate.ra", "candidate.dec", "candidate.jd", "candidate.magpsf"})

    def datum(raw: bytes) -> Any:
        layout = ocf.read_container(raw)
        stream = io.BytesIO(raw)
        stream.seek(layout.blocks[0][1])
        return fastavro.schemaless_reader(stream, layout.header.schema.parsed, None)

    def scalars(raw: bytes) -> Any:
        layout = ocf.read_container(raw)
        return layout.header.schema.program(names).decode(raw, layout.blocks[0][1])[0]

    sides = {
        _READER: lambda raw: next(iter(fastavro.reader(io.BytesIO(raw)))),
        _DATUM: datum,
        _FULL: lambda raw: Alert.from_bytes(raw).packet,
        _FIVE: _five,
    }
    if compiled.decoder() is not None:
        sides[_SCALARS] = scalars
    check(
        all(repr(sides[_FULL](raw)) == repr(sides[_READER](raw)) for raw in raws), "the values of the packets"
    )
    runs = {name: _clock(read, raws, scale) for name, read in sides.items()}
    runs[_FULL_PLAIN] = _without(runs[_FULL])
    runs[_FIVE_PLAIN] = _without(runs[_FIVE])
    rates = interleaved(runs, scale.runs)
    size = sum(map(len, raws)) / len(raws) / 1e3
    table = Table(f"Decoding {what}, {size:.0f} kB each", "packets/s")
    table.add(_READER, rates)
    table.add(_DATUM, rates, to=_READER)
    table.add(_FULL, rates, to=_READER, goal=Goal("≥", 10))
    table.add(_FIVE, rates, to=_READER, goal=Goal("≥", 40))
    if compiled.decoder() is not None:
        table.add(_SCALARS, rates, to=_READER)
    table.add(_FULL_PLAIN, rates, to=_READER)
    table.add(_FIVE_PLAIN, rates, to=_READER)
    return table


def _five(raw: bytes) -> Any:
    alert = Alert.from_bytes(raw)
    return alert.object_id, alert.ra, alert.dec, alert.mjd, alert.mag


def _cutouts(raws: Sequence[bytes], scale: Scale) -> Table:
    images = [image for raw in raws for image in Alert.from_bytes(raw).cutouts]

    def by_astropy(image: Cutout) -> Any:
        return image._read(lambda hdu: hdu.data)

    check(all((by_astropy(image) == image.data).sum() >= 0 for image in images), "the images")
    rates = interleaved(
        {
            _ASTROPY: _clock(by_astropy, images, scale),
            _QUICK: _clock(lambda image: image.data, images, scale),
        },
        scale.runs,
    )
    table = Table("Images of cutouts, unpacking included", "images/s")
    table.add(_ASTROPY, rates)
    table.add(_QUICK, rates, to=_ASTROPY)
    return table


def _clock(read: Callable[[Any], Any], items: Sequence[Any], scale: Scale) -> Callable[[], float]:
    rounds = scale.of(4, 1)

    def measure() -> float:
        for item in items:  # schemas are prepared, programs made
            read(item)
        begin = perf_counter()
        for _ in range(rounds):
            for item in items:
                read(item)
        return rounds * len(items) / (perf_counter() - begin)

    return measure


@contextmanager
def _switched_off() -> Iterator[None]:
    """Have fastavro decode, as where there is no compiler; schemas are prepared anew."""
    from nuncius.alerts.packets import schemas

    os.environ["NUNCIUS_COMPILED"] = "0"
    try:
        _forget(schemas)
        yield
    finally:
        del os.environ["NUNCIUS_COMPILED"]
        _forget(schemas)


def _forget(schemas: Any) -> None:
    compiled.decoder.cache_clear()
    ocf._headers = []
    schemas._by_text = schemas._Cache(schemas._CACHED_SCHEMAS)


def _without(measure: Callable[[], float]) -> Callable[[], float]:
    def measured() -> float:
        with _switched_off():
            return measure()

    return measured
