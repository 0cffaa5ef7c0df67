"""The archive that the benchmarks ask: objects all over the sky with a few alerts each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nuncius.archives.embedded.database import Database
from nuncius.sky import cells_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CATALOG = "ZTF_alerts"
ALERTS_AN_OBJECT = 5
WITH_HISTORY = 100  # every so many-th object has one
_POINTS_AN_OBJECT = 20
_OFFSET_ARCSEC = 0.3


def fill(path: Path, rows: int) -> tuple[Any, Any]:
    """Make an archive of objects all over the sky with a few alerts each; return the positions of the objects."""
    rng = np.random.default_rng(1)
    objects = rows // ALERTS_AN_OBJECT
    ra, dec = rng.uniform(0, 360, objects), np.degrees(np.arcsin(rng.uniform(-0.5, 1, objects)))
    database = Database(path, read_only=False)
    with database.writing() as connection:
        database.create_catalog(CATALOG)
        connection.executemany(
            f"INSERT INTO {CATALOG} (_id, alert_id, object_id, mjd, ra, dec, hpx, received, digest, images, document) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            _alerts(rng, ra, dec),
        )
        connection.executemany(
            f'INSERT INTO "{CATALOG}:points" (object_id, list, point, mjd, document) VALUES (?, ?, ?, ?, ?)',
            _points(objects),
        )
    database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return ra, dec


def _alerts(rng: Any, object_ra: Any, object_dec: Any) -> Iterator[tuple[Any, ...]]:
    """Give the rows, a night of all objects after another."""
    count = len(object_ra)
    for visit in range(ALERTS_AN_OBJECT):
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
                document_id, candid, object_id(number), mjd, alpha, delta, cell, mjd,
                digest, 0, text,
            )  # fmt: skip


def _text(number: int, candid: int, mjd: float, ra: float, dec: float, mag: float, score: float) -> str:
    """Return a document of about 400 bytes, without its beginning."""
    return (
        f'"coordinates":{{"radec_geojson":{{"type":"Point","coordinates":[{ra - 180!r},{dec!r}]}}}},"objectId":"{object_id(number)}","candid":{candid},"candidate":'
        f'{{"jd":{mjd + 2400000.5:.7f},"fid":{candid % 3 + 1},"pid":{candid * 7},"diffmaglim":20.6,"programid":1,'
        f'"candid":{candid},"isdiffpos":"t","field":617,"rcid":12,"ra":{ra!r},"dec":{dec!r},"magpsf":{mag!r},'
        f'"sigmapsf":0.08,"rb":{score!r},"drb":{score!r},"ssnamenr":"null","distnr":0.31,"magnr":18.25}}}}'
    )


def _points(objects: int) -> Iterator[tuple[Any, ...]]:
    for number in range(0, objects, WITH_HISTORY):
        for earlier in range(_POINTS_AN_OBJECT):
            mjd = 60999.3 - 1.5 * earlier
            values = {"jd": mjd + 2400000.5, "fid": 1, "pid": earlier, "diffmaglim": 20.5, "programid": 1}
            yield object_id(number), "prv_candidates", str(earlier), mjd, json.dumps(values)


def object_id(number: int) -> str:
    return f"ZTF26a{number:07d}"


def centres(rng: Any, object_ra: Any, object_dec: Any, count: int) -> tuple[Any, Any]:
    """Return positions of which every other one lies beside an object, the rest anywhere."""
    near = rng.integers(0, len(object_ra), count)
    lost = np.arange(count) % 2 == 1
    anywhere = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    ra = np.where(lost, anywhere[0], object_ra[near])
    dec = np.where(lost, anywhere[1], object_dec[near] + _OFFSET_ARCSEC / 3600)
    return ra, dec
