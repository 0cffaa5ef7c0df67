"""Asking a large archive, beside the bare SQL on the same file.

The bare side is what one would write by hand for just this question: the same index, one statement, numpy for the
separations, the same JSON decoder; no checks, no filters, no choice of fields.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import astropy.units as u
import msgspec
import numpy as np

from benchmarks.measure import Goal, Table, check, interleaved
from nuncius import open_archive
from nuncius.archives.embedded.database import Database
from nuncius.sky import cells_of, cone_ranges

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale
    from nuncius.archives import EmbeddedArchive

_CATALOG = "ZTF_alerts"
_ALERTS_AN_OBJECT = 5
_POINTS_AN_OBJECT = 20
_WITH_HISTORY = 100  # every so many-th object has one
_RADIUS_ARCSEC = 2.0
_OFFSET_ARCSEC = 0.3
_ASKED = 200  # single cones and objects in each run


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    rows, cones = scale.of(1_000_000, 100_000), scale.of(10_000, 2_000)
    with tempfile.TemporaryDirectory(prefix="nuncius-benchmark-") as folder:
        path = Path(folder, "archive.db")
        ra, dec = _fill(path, rows)
        bare = Database(path, read_only=True)  # for its connection, which has the same pragmas
        with open_archive(path) as archive:
            yield from _compared(archive, bare.connection, ra, dec, cones, scale)
        bare.close()


def _compared(
    archive: EmbeddedArchive, sql: sqlite3.Connection, ra: Any, dec: Any, cones: int, scale: Scale
) -> Iterator[Table]:
    rows = len(ra) * _ALERTS_AN_OBJECT
    rng = np.random.default_rng(2)
    centres = _centres(rng, ra, dec, cones)
    few = list(zip(*(column[:_ASKED].tolist() for column in _centres(rng, ra, dec, _ASKED)), strict=True))
    chosen = rng.choice(
        np.arange(0, len(ra), _WITH_HISTORY), min(_ASKED, len(ra) // _WITH_HISTORY), replace=False
    )
    names = [_object_id(int(number)) for number in chosen]
    radius = _RADIUS_ARCSEC * u.arcsec
    questions: dict[str, tuple[int, str, Callable[[], Any], Callable[[], Any]]] = {
        f'one cone of {_RADIUS_ARCSEC:g}"': (
            len(few),
            "ms",
            lambda: [archive.cone_search(_CATALOG, place, radius).docs for place in few],
            lambda: [_bare_cone(sql, *place) for place in few],
        ),
        f'{cones:,} cones of {_RADIUS_ARCSEC:g}" at once': (
            1,
            "ms",
            lambda: archive.cone_search(_CATALOG, np.stack(centres, axis=1), radius).docs,
            lambda: _bare_cones(sql, *centres),
        ),
        "find one object's alerts": (
            len(names),
            "ms",
            lambda: [archive.find(_CATALOG, {"objectId": name}).docs for name in names],
            lambda: [_bare_alerts(sql, name) for name in names],
        ),
        "one object with its history": (
            len(names),
            "ms",
            lambda: [archive.object(name) for name in names],
            lambda: [_bare_object(sql, name) for name in names],
        ),
    }
    for title, (times, unit, ours, by_hand) in questions.items():
        _check_answers(title, ours(), by_hand())
        sides = {"bare SQL": _duration_ms(by_hand, times), "nuncius": _duration_ms(ours, times)}
        measured = interleaved(sides, scale.runs)
        table = Table(f"archive: {title}, {rows:,} alerts", unit)
        table.add("bare SQL", measured)
        table.add("nuncius", measured, to="bare SQL", goal=Goal("≤", 1.5))
        if "history" in title:
            table.notes.append(
                "the bare side decodes the entries and makes no points and no light curve of them"
            )
        yield table


def _duration_ms(ask: Callable[[], Any], times: int) -> Callable[[], float]:
    def measure() -> float:
        begin = perf_counter()
        ask()
        return (perf_counter() - begin) * 1000 / times

    return measure


def _check_answers(title: str, ours: Any, by_hand: Any) -> None:
    """See that both sides found the same; distances by two formulas agree but for rounding."""
    if "history" in title:
        ours = [(found.alerts, len(found.light_curve)) for found in ours]
        by_hand = [(alerts, len(alerts) + len(points)) for alerts, points in by_hand]
    check(any(map(bool, ours)), f"{title}: nothing was found")
    if "cone" in title:
        our_distances, hand_distances = (
            [hit.pop("separation_arcsec") for hit in _hits(side)] for side in (ours, by_hand)
        )
        check(np.allclose(our_distances, hand_distances, rtol=0, atol=1e-6), f"{title}: distances")
        for hit in _hits(ours):
            del hit["input_index"]
    check(ours == by_hand, title)


def _hits(found: list[Any]) -> list[dict[str, Any]]:
    """Return all documents of one answer, or of many."""
    return found if isinstance(found[0], dict) else [hit for part in found for hit in part]


# By hand -------------------------------------------------------------------------------------------------------------


def _bare_cone(sql: sqlite3.Connection, ra: float, dec: float) -> list[dict[str, Any]]:
    _, low, high = cone_ranges(np.array([ra]), np.array([dec]), _RADIUS_ARCSEC)
    where = " OR ".join(["hpx >= ? AND hpx < ?"] * len(low))
    bounds = np.stack([low, high], axis=1).ravel().tolist()
    found = sql.execute(f"SELECT ra, dec, document FROM {_CATALOG} WHERE {where}", bounds).fetchall()
    if not found:
        return []
    near = np.array([row[:2] for row in found])
    distance = _separation_arcsec(ra, dec, near[:, 0], near[:, 1])
    hits = [
        index for index in np.argsort(distance, kind="stable").tolist() if distance[index] <= _RADIUS_ARCSEC
    ]
    return [_document(found[index][2], float(distance[index])) for index in hits]


def _bare_cones(sql: sqlite3.Connection, ra: Any, dec: Any) -> list[dict[str, Any]]:
    index, low, high = cone_ranges(ra, dec, _RADIUS_ARCSEC)
    order = np.argsort(low)
    sql.execute("CREATE TEMP TABLE IF NOT EXISTS by_hand (cone, low, high)")
    sql.execute("BEGIN")
    sql.execute("DELETE FROM by_hand")
    sql.executemany(
        "INSERT INTO by_hand VALUES (?, ?, ?)",
        zip(index[order].tolist(), low[order].tolist(), high[order].tolist(), strict=True),
    )
    sql.execute("COMMIT")
    found = sql.execute(
        f"SELECT cone, ra, dec, id, document FROM by_hand CROSS JOIN {_CATALOG} ON hpx >= low AND hpx < high"
    ).fetchall()
    cone, near_ra, near_dec, number = (np.array([row[column] for row in found]) for column in range(4))
    distance = _separation_arcsec(ra[cone], dec[cone], near_ra, near_dec)
    order = np.lexsort((number, distance, cone))
    hits = order[distance[order] <= _RADIUS_ARCSEC].tolist()
    return [_document(found[hit][4], float(distance[hit])) for hit in hits]


def _separation_arcsec(ra1: Any, dec1: Any, ra2: Any, dec2: Any) -> Any:
    """Return the angles by the haversine formula, which is exact for small ones."""
    a, d, b, e = map(np.radians, (ra1, dec1, ra2, dec2))
    half = np.sin((e - d) / 2) ** 2 + np.cos(d) * np.cos(e) * np.sin((b - a) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(half))) * 3600


def _document(text: str, distance: float) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(text)
    document["separation_arcsec"] = distance
    return document


def _bare_alerts(sql: sqlite3.Connection, object_id: str, order: str = "id") -> list[dict[str, Any]]:
    found = sql.execute(f"SELECT document FROM {_CATALOG} WHERE object_id = ? ORDER BY {order}", (object_id,))
    return [msgspec.json.decode(text) for (text,) in found]


def _bare_object(sql: sqlite3.Connection, object_id: str) -> tuple[list[Any], list[Any]]:
    points = sql.execute(f'SELECT document FROM "{_CATALOG}:points" WHERE object_id = ?', (object_id,))
    return _bare_alerts(sql, object_id, "mjd"), [msgspec.json.decode(text) for (text,) in points]


# The archive ---------------------------------------------------------------------------------------------------------


def _fill(path: Path, rows: int) -> tuple[Any, Any]:
    """Make an archive of objects all over the sky with a few alerts each; return the positions of the objects."""
    rng = np.random.default_rng(1)
    objects = rows // _ALERTS_AN_OBJECT
    ra, dec = rng.uniform(0, 360, objects), np.degrees(np.arcsin(rng.uniform(-0.5, 1, objects)))
    database = Database(path, read_only=False)
    with database.writing() as connection:
        database.create_catalog(_CATALOG)
        connection.executemany(
            f"INSERT INTO {_CATALOG} (_id, alert_id, object_id, mjd, ra, dec, hpx, received, digest, images, document) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            _alerts(rng, ra, dec),
        )
        connection.executemany(
            f'INSERT INTO "{_CATALOG}:points" (object_id, list, point, mjd, document) VALUES (?, ?, ?, ?, ?)',
            _points(objects),
        )
    database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return ra, dec


def _alerts(rng: Any, object_ra: Any, object_dec: Any) -> Iterator[tuple[Any, ...]]:
    """Give the rows, a night of all objects after another."""
    count = len(object_ra)
    for visit in range(_ALERTS_AN_OBJECT):
        # Measured positions scatter by some 0.05 arcseconds.
        dec = object_dec + rng.normal(0, 0.05, count) / 3600
        ra = (object_ra + rng.normal(0, 0.05, count) / 3600 / np.cos(np.radians(object_dec))) % 360
        columns = (ra, dec, cells_of(ra, dec), rng.uniform(16, 20.5, count), rng.uniform(0, 1, count))
        for number, (alpha, delta, cell, mag, score) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            candid = visit * count + number
            mjd = 61000.3 + visit + 1e-6 * number / count
            document_id = f"{candid * 2654435761 % 2**96:024x}"
            text = f'{{"_id":"{document_id}",' + _text(number, candid, mjd, alpha, delta, mag, score)
            digest = candid.to_bytes(16, "big")
            yield (
                document_id, candid, _object_id(number), mjd, alpha, delta, cell, mjd,
                digest, 0, text,
            )  # fmt: skip


def _text(number: int, candid: int, mjd: float, ra: float, dec: float, mag: float, score: float) -> str:
    """Return a document of about 370 bytes, without its beginning."""
    return (
        f'"schemavsn":"4.01","publisher":"nuncius","objectId":"{_object_id(number)}","candid":{candid},"candidate":'
        f'{{"jd":{mjd + 2400000.5:.7f},"fid":{candid % 3 + 1},"pid":{candid * 7},"diffmaglim":20.6,"programid":1,'
        f'"candid":{candid},"isdiffpos":"t","field":617,"rcid":12,"ra":{ra!r},"dec":{dec!r},"magpsf":{mag!r},'
        f'"sigmapsf":0.08,"rb":{score!r},"drb":{score!r},"ssnamenr":"null","distnr":0.31,"magnr":18.25}}}}'
    )


def _points(objects: int) -> Iterator[tuple[Any, ...]]:
    for number in range(0, objects, _WITH_HISTORY):
        for earlier in range(_POINTS_AN_OBJECT):
            mjd = 60999.3 - 1.5 * earlier
            values = {"jd": mjd + 2400000.5, "fid": 1, "pid": earlier, "diffmaglim": 20.5, "programid": 1}
            yield _object_id(number), "prv_candidates", str(earlier), mjd, json.dumps(values)


def _object_id(number: int) -> str:
    return f"ZTF26a{number:07d}"


def _centres(rng: Any, object_ra: Any, object_dec: Any, count: int) -> tuple[Any, Any]:
    """Return positions of which every other one lies beside an object, the rest anywhere."""
    near = rng.integers(0, len(object_ra), count)
    lost = np.arange(count) % 2 == 1
    anywhere = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    ra = np.where(lost, anywhere[0], object_ra[near])
    dec = np.where(lost, anywhere[1], object_dec[near] + _OFFSET_ARCSEC / 3600)
    return ra, dec
