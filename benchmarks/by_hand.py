"""Questions as one would write them by hand, in SQLite and in DuckDB: one statement, and numpy for the separations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from benchmarks.night import CATALOG
from nuncius.archives.duckdb.cells import joined
from nuncius.sky import cone_ranges

if TYPE_CHECKING:
    import sqlite3

RADIUS_ARCSEC = 2.0
BRIGHT, FAINT = 17.0, 18.0


def cone(sql: sqlite3.Connection, ra: float, dec: float) -> list[dict[str, Any]]:
    _, low, high = cone_ranges(np.array([ra]), np.array([dec]), RADIUS_ARCSEC)
    where = " OR ".join(["hpx >= ? AND hpx < ?"] * len(low))
    bounds = np.stack([low, high], axis=1).ravel().tolist()
    found = sql.execute(f"SELECT ra, dec, document FROM {CATALOG} WHERE {where}", bounds).fetchall()
    return _nearest_first(ra, dec, found)


def _nearest_first(ra: float, dec: float, found: list[Any]) -> list[dict[str, Any]]:
    if not found:
        return []
    near = np.array([row[:2] for row in found])
    distance = _separation_arcsec(ra, dec, near[:, 0], near[:, 1])
    hits = [
        index for index in np.argsort(distance, kind="stable").tolist() if distance[index] <= RADIUS_ARCSEC
    ]
    return [_document(found[index][2], float(distance[index])) for index in hits]


def cones(sql: sqlite3.Connection, ra: Any, dec: Any) -> list[dict[str, Any]]:
    index, low, high = cone_ranges(ra, dec, RADIUS_ARCSEC)
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
        f"SELECT cone, ra, dec, id, document FROM by_hand CROSS JOIN {CATALOG} ON hpx >= low AND hpx < high"
    ).fetchall()
    cone, near_ra, near_dec, number = (np.array([row[column] for row in found]) for column in range(4))
    distance = _separation_arcsec(ra[cone], dec[cone], near_ra, near_dec)
    order = np.lexsort((number, distance, cone))
    hits = order[distance[order] <= RADIUS_ARCSEC].tolist()
    return [_document(found[hit][4], float(distance[hit])) for hit in hits]


def count(sql: sqlite3.Connection) -> int:
    magnitude = "json_extract(document, '$.candidate.magpsf')"
    statement = f"SELECT count(*) FROM {CATALOG} WHERE {magnitude} >= ? AND {magnitude} < ?"
    return int(sql.execute(statement, (BRIGHT, FAINT)).fetchone()[0])


def duck_rows(duck: Any, statement: str, values: Any = None) -> list[Any]:
    return duck.execute(statement.format(CATALOG), values).fetchall()


def duck_cone(duck: Any, ra: float, dec: float) -> list[dict[str, Any]]:
    _, low, high = cone_ranges(np.array([ra]), np.array([dec]), RADIUS_ARCSEC)
    where = " OR ".join(["_healpix_29 >= ? AND _healpix_29 < ?"] * len(low))
    bounds = np.stack([low, high], axis=1).ravel().tolist()
    found = duck_rows(duck, f"SELECT ra, dec, _document FROM {{}} WHERE {where}", bounds)
    return _nearest_first(ra, dec, found)


def duck_cones(duck: Any, ra: Any, dec: Any) -> list[dict[str, Any]]:
    cone, cell, shift = joined(*cone_ranges(ra, dec, RADIUS_ARCSEC))
    duck.register("asked", {"cone": cone, "cell": cell})
    found = duck_rows(
        duck,
        f"SELECT cone, ra, dec, _document FROM {{}} JOIN asked ON (_healpix_29 >> {shift}) = cell",
    )
    cone, near_ra, near_dec = (np.array([row[column] for row in found]) for column in range(3))
    distance = _separation_arcsec(ra[cone], dec[cone], near_ra, near_dec)
    order = np.lexsort((distance, cone))
    hits = order[distance[order] <= RADIUS_ARCSEC].tolist()
    return [_document(found[hit][3], float(distance[hit])) for hit in hits]


def duck_alerts(duck: Any, object_id: str) -> list[dict[str, Any]]:
    found = duck_rows(duck, 'SELECT _document FROM {} WHERE "objectId" = ?', [object_id])
    return [msgspec.json.decode(text) for (text,) in found]


def _separation_arcsec(ra1: Any, dec1: Any, ra2: Any, dec2: Any) -> Any:
    """Return the angles by the haversine formula, which is exact for small ones."""
    a, d, b, e = map(np.radians, (ra1, dec1, ra2, dec2))
    half = np.sin((e - d) / 2) ** 2 + np.cos(d) * np.cos(e) * np.sin((b - a) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(half))) * 3600


def _document(text: str, distance: float) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(text)
    document["separation_arcsec"] = distance
    return document


def alerts(sql: sqlite3.Connection, object_id: str, order: str = "id") -> list[dict[str, Any]]:
    found = sql.execute(f"SELECT document FROM {CATALOG} WHERE object_id = ? ORDER BY {order}", (object_id,))
    return [msgspec.json.decode(text) for (text,) in found]


def object_with_history(sql: sqlite3.Connection, object_id: str) -> tuple[list[Any], list[Any]]:
    points = sql.execute(f'SELECT document FROM "{CATALOG}:points" WHERE object_id = ?', (object_id,))
    return alerts(sql, object_id, "mjd"), [msgspec.json.decode(text) for (text,) in points]
