"""Filters before decoding: text filters and watchlists, against alerts of which only the position is touched."""

from __future__ import annotations

import itertools
import zlib
from time import perf_counter
from typing import TYPE_CHECKING, Any

import bson
import numpy as np

from benchmarks import packets
from benchmarks.antares import encoded
from benchmarks.antares import loci as antares_loci
from benchmarks.kafka import TOPIC, broker
from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import Alert, open_stream
from nuncius.alerts.packets import open_packet
from nuncius.alerts.surveys.antares import Antares
from nuncius.sky import separation_arcsec
from nuncius.streams.watch import Watchlist
from nuncius.streams.where import parse_where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

    Make = Callable[[bytes], Alert]
    Judge = Callable[[list[Alert]], list[bool]]

_TARGETS = 100_000
_RADIUS_ARCSEC = 2.0
_BATCH = 200
_ANTARES = Antares()

# How the benchmarks' broker is read: as it is, and as if it were ANTARES, which it is but for login and TLS.
_PLAIN = {"url": f"kafka://{{}}/{TOPIC}"}
_AS_ANTARES: dict[str, Any] = {
    "url": f"antares://{{}}/^{TOPIC}",
    "credentials": ("nobody", "nothing"),
    "config": {"security.protocol": "PLAINTEXT"},
}

_UNTOUCHED = "no filter, nothing touched"
_NONE = "no filter, RA and Dec touched"
_NEAR = f"near one of {_TARGETS:,} targets"
_ALL_NEAR = f"{_NEAR}, as all are"
_WORDS = "where mag < 18 and dec > 0"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    big = packets.synthetic(scale.of(500, 100))
    yield _reading(packets.SYNTHETIC, packets.repeated(big, scale.of(3000, 600)), Alert.from_bytes,
                   "candidate.drb > 0.9 and candidate.distnr > 1", scale)  # fmt: skip
    small = _loci(big, scale.of(10_000, 2000))
    yield _reading("loci as ANTARES sends them", small, _locus, "'nuclear_transient' in packet.tags", scale)
    yield _compiled(big, scale)
    repeated = packets.repeated(big, scale.of(3000, 600))
    yield _streamed(packets.SYNTHETIC, repeated, Alert.from_bytes, _PLAIN, scale)
    some = [encoded(one) for one in antares_loci(scale.of(40_000, 4000))]
    yield _streamed("loci as ANTARES sends them", some, _locus, _AS_ANTARES, scale)


def _loci(ztf: list[bytes], count: int) -> list[bytes]:
    """Make small messages, zlib and BSON, of the objects of synthetic alerts."""
    kinds: list[dict[str, Any]] = []
    for number, raw in enumerate(ztf[:100]):
        alert = Alert.from_bytes(raw)
        candidate = {f"ztf_{key}": value for key, value in alert.packet["candidate"].items()}
        kinds.append(
            {
                "id": f"ANT2020{number:05}",
                "ra": alert.ra,
                "dec": alert.dec,
                "properties": {"newest_alert_magnitude": alert.mag, "newest_alert_observation_time": alert.mjd}
                | dict(list(candidate.items())[:40]),
                "tags": ["nuclear_transient"] if number % 3 else ["high_snr"],
                "catalogs": ["gaia_dr3_gaia_source"],
            }
        )  # fmt: skip
    return packets.repeated([zlib.compress(bson.encode(kind)) for kind in kinds], count)


def _locus(raw: bytes) -> Alert:
    return Alert(raw, open_packet(raw), survey=_ANTARES)


def _reading(kind: str, messages: list[bytes], make: Make, path: str, scale: Scale) -> Table:
    """Compare how fast packets are read up to the answer of a filter."""
    alerts = [make(raw) for raw in messages]
    watch = _watchlist(alerts)
    filters = {_WORDS: parse_where(_WORDS.removeprefix("where ")), f"where {path}": parse_where(path)}
    sides: dict[str, Judge] = {
        _NONE: _touched,
        _NEAR: lambda batch: watch(*_places(batch)).tolist(),
        **{
            name: lambda batch, where=where: [where(alert) for alert in batch]
            for name, where in filters.items()
        },
    }
    passed = sum(sum(sides[_NEAR](list(batch))) for batch in _batches(alerts))
    check(0 < passed < len(alerts), f"{passed} of {len(alerts)} are near a target")
    measured = interleaved({name: _rate(messages, make, judge) for name, judge in sides.items()}, scale.runs)
    size = sum(map(len, messages)) / len(messages) / 1000
    table = Table(f"filters: {len(messages)} packets of {size:.1f} kB ({kind}), from bytes on", "packets/s")
    table.add(_NONE, measured)
    table.add(_NEAR, measured, to=_NONE, label="no filter", goal=Goal("≥", 0.8))
    for name in filters:
        table.add(name, measured, to=_NONE, label="no filter", goal=Goal("≥", 0.8))
    table.notes.append(f"{passed} of them are near a target; batches of {_BATCH}")
    return table


def _streamed(kind: str, messages: list[bytes], make: Make, place: dict[str, Any], scale: Scale) -> Table:
    """Compare how fast a stream reads a topic to its end, with filters and without."""
    count = len(messages)
    alerts = [make(raw) for raw in messages[:2000]]
    watch, all_sky = _watchlist(alerts), _watchlist(alerts, near=len(alerts))
    sides: dict[str, tuple[dict[str, Any], bool]] = {
        _UNTOUCHED: ({}, False),
        _NONE: ({}, True),
        _NEAR: ({"near": watch}, True),
        _ALL_NEAR: ({"near": all_sky}, True),
        _WORDS: ({"where": _WORDS.removeprefix("where ")}, True),
    }
    handed: dict[str, int] = {}

    def side(name: str) -> Callable[[], float]:
        options, touches = sides[name]

        def measure() -> float:
            rate, handed[name] = _read_to_the_end(server, count, place | options, touches=touches)
            return rate

        return measure

    with broker(messages) as server:
        measured = interleaved({name: side(name) for name in sides}, scale.runs)
    size = sum(map(len, messages)) / count / 1000
    table = Table(f"filters: {count} packets of {size:.1f} kB ({kind}), through a broker", "packets/s")
    table.add(_UNTOUCHED, measured)
    table.add(_NONE, measured, to=_UNTOUCHED, label="nothing touched")
    for name in list(sides)[2:]:
        # Where all pass, all get a note which target they are near, and there is nothing that a filter saves.
        goal = None if name == _ALL_NEAR else Goal("≥", 0.8)
        table.add(name, measured, to=_NONE, label="no filter", goal=goal)
        table.add(name, measured, to=_UNTOUCHED, label="nothing touched")
    passed = ", ".join(f"{handed[name]} ({name})" for name in list(sides)[2:])
    table.notes.append(f"of what passes a filter, RA and Dec are touched too; there passed {passed}")
    return table


def _read_to_the_end(server: str, count: int, options: dict[str, Any], *, touches: bool) -> tuple[float, int]:
    """Return packets/s, those that a filter dropped included, and how many were handed out."""
    handed = 0
    url = options.pop("url").format(server)
    with open_stream(url, group=False, stop="end", on_error="raise", **options) as stream:
        begin = perf_counter()
        for alert in stream:
            handed += 1
            if touches:
                _ = alert.ra, alert.dec
        seconds = perf_counter() - begin
        stats = stream.stats()
    check(stats.received == count == handed + stats.filtered, f"{stats.received} of {count} packets came")
    return count / seconds, handed


def _compiled(ztf: list[bytes], scale: Scale) -> Table:
    """Compare text filters with functions, of alerts whose measurement is read already."""
    alerts = [Alert.from_bytes(raw) for raw in ztf]
    text = "score > 0.5 and 15 < mag < 18.5"
    where = parse_where(text)

    def function(alert: Alert) -> bool:
        score, mag = alert.score, alert.mag
        return score is not None and score > 0.5 and mag is not None and 15 < mag < 18.5

    check([where(alert) for alert in alerts] == [function(alert) for alert in alerts], text)
    passes = scale.of(300, 100)

    def rate(judge: Callable[[Alert], bool]) -> Callable[[], float]:
        def measure() -> float:
            begin = perf_counter()
            for _ in range(passes):
                for alert in alerts:
                    judge(alert)
            return passes * len(alerts) / (perf_counter() - begin)

        return measure

    measured = interleaved({"Python function": rate(function), f"where {text}": rate(where)}, scale.runs)
    table = Table(f"filters: the same condition as text and as function, {len(alerts)} alerts", "alerts/s")
    table.add("Python function", measured)
    table.add(f"where {text}", measured, to="Python function", goal=Goal("≥", 0.67))
    return table


def _watchlist(alerts: list[Alert], near: int = 5) -> Watchlist:
    """Make targets all over the sky, a few of them at the places of alerts; check some answers against brute force."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, _TARGETS), np.degrees(np.arcsin(rng.uniform(-1, 1, _TARGETS)))
    some = _places(alerts[:near])
    ra[: some.shape[1]], dec[: some.shape[1]] = some
    watch = Watchlist(np.stack([ra, dec], axis=1), f"{_RADIUS_ARCSEC} arcsec")
    places = _places(alerts[:_BATCH])
    near = separation_arcsec(*places[:, :, None], ra, dec) <= _RADIUS_ARCSEC
    check(watch(*places).tolist() == near.any(axis=1).tolist(), "the watchlist and brute force")
    return watch


def _places(alerts: list[Alert]) -> Any:
    return np.array([(alert.ra, alert.dec) for alert in alerts], np.float64).T


def _touched(batch: list[Alert]) -> list[bool]:
    return [alert.ra is not None and alert.dec is not None for alert in batch]


def _batches(items: list[Any]) -> Iterator[tuple[Any, ...]]:
    several = iter(items)
    while batch := tuple(itertools.islice(several, _BATCH)):
        yield batch


def _rate(messages: list[bytes], make: Make, judge: Judge) -> Callable[[], float]:
    """Return what measures packets/s."""

    def measure() -> float:
        begin = perf_counter()
        for batch in _batches(messages):
            judge([make(raw) for raw in batch])
        return len(messages) / (perf_counter() - begin)

    return measure
