"""Asking a large archive in four ways: by bare SQL and by nuncius, in SQLite and, on its export, in DuckDB.

The bare sides are what one would write by hand for just this question: the same files and indexes, one statement, numpy
for the separations, the same JSON decoder; no checks, no filters, no choice of fields.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np
from astropy.table import QTable

from benchmarks import by_hand
from benchmarks.by_hand import BRIGHT, FAINT, RADIUS_ARCSEC
from benchmarks.measure import Goal, Table, check, interleaved
from benchmarks.night import ALERTS_AN_OBJECT, CATALOG, WITH_HISTORY, centres, fill, object_id
from nuncius import open_archive
from nuncius.archives.embedded.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_ASKED = 100  # single cones and objects in each run
_STARS = "Gaia_EDR3"

SQL, OURS, DUCK, OURS_ON_DUCK = "bare SQLite", "nuncius, SQLite", "bare DuckDB", "nuncius, DuckDB"


@dataclass(frozen=True)
class _Engines:
    """What is asked: an archive and its export, both by hand and by nuncius."""

    sql: sqlite3.Connection
    archive: Any
    duck: Any
    export: Any


@dataclass(frozen=True)
class _Question:
    """A question and how each side asks it.

    Parameters
    ----------
    times : int
        How many questions one call asks.
    sides : dict
        The callables, by name.
    plain : callable
        Brings an answer to the form in which all are compared.
    notes : tuple of str
        What one must know to read the figures.
    """

    times: int
    sides: dict[str, Callable[[], Any]]
    plain: Callable[[Any], Any]
    notes: tuple[str, ...] = ()


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    import duckdb

    rows, cones = scale.of(1_000_000, 100_000), scale.of(10_000, 2_000)
    with tempfile.TemporaryDirectory(prefix="nuncius-benchmark-") as folder:
        path, exported = Path(folder, "archive.db"), Path(folder, "export")
        ra, dec = fill(path, rows)
        with open_archive(path) as archive:
            archive.create_index(CATALOG, "candidate.magpsf")
            _index_by_hand(path)
            archive.export(exported, progress=False)
            bare = Database(path, read_only=True)  # for its connection, which has the same pragmas
            with open_archive(f"duckdb:///{exported}") as export, duckdb.connect() as duck:
                _view(duck, exported)
                yield from _compared(_Engines(bare.connection, archive, duck, export), ra, dec, cones, scale)
            bare.close()
        yield _loading(Path(folder), scale)


def _index_by_hand(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.execute(f"CREATE INDEX magnitudes ON {CATALOG} (json_extract(document, '$.candidate.magpsf'))")


def _view(duck: Any, exported: Path) -> None:
    """Give DuckDB by hand what ours gives it: the files of the catalog, whose footers are kept."""
    duck.execute("SET GLOBAL parquet_metadata_cache = true")
    files = sorted(map(str, Path(exported, CATALOG, "dataset").rglob("*.parquet")))
    duck.execute(f"CREATE VIEW {CATALOG} AS SELECT * FROM read_parquet({files}, hive_partitioning = false)")


def _compared(on: _Engines, ra: Any, dec: Any, cones: int, scale: Scale) -> Iterator[Table]:
    rows = len(ra) * ALERTS_AN_OBJECT
    for title, question in _questions(on, ra, dec, cones).items():
        answers = {name: question.plain(side()) for name, side in question.sides.items()}
        check(bool(answers[SQL]), f"{title}: nothing was found")
        for name, answer in answers.items():
            check(_same(answer, answers[SQL]), f"{title}: {name}")
        timed = {name: _duration_ms(side, question.times) for name, side in question.sides.items()}
        measured = interleaved(timed, scale.runs)
        table = Table(f"archive: {title}, {rows:,} alerts", "ms", notes=list(question.notes))
        table.add(SQL, measured)
        table.add(OURS, measured, to=SQL, goal=Goal("≤", 1.5))
        if DUCK in measured:
            table.add(DUCK, measured, to=SQL)
            table.add(OURS_ON_DUCK, measured, to=DUCK, goal=Goal("≤", 2))
        yield table


def _questions(on: _Engines, ra: Any, dec: Any, cones: int) -> dict[str, _Question]:
    rng = np.random.default_rng(2)
    many = centres(rng, ra, dec, cones)
    few = list(zip(*(column[:_ASKED].tolist() for column in centres(rng, ra, dec, _ASKED)), strict=True))
    chosen = rng.choice(
        np.arange(0, len(ra), WITH_HISTORY), min(_ASKED, len(ra) // WITH_HISTORY), replace=False
    )
    names = [object_id(int(number)) for number in chosen]
    radius = RADIUS_ARCSEC * u.arcsec
    between = {"candidate.magpsf": {"$gte": BRIGHT, "$lt": FAINT}}
    return {
        f'one cone of {RADIUS_ARCSEC:g}"': _Question(
            len(few),
            _four(
                lambda: [by_hand.cone(on.sql, *place) for place in few],
                lambda: [by_hand.duck_cone(on.duck, *place) for place in few],
                on,
                lambda archive: [archive.cone_search(CATALOG, place, radius).docs for place in few],
            ),
            lambda answer: _hits([hit for part in answer for hit in part]),
        ),
        f'{cones:,} cones of {RADIUS_ARCSEC:g}" at once': _Question(
            1,
            _four(
                lambda: by_hand.cones(on.sql, *many),
                lambda: by_hand.duck_cones(on.duck, *many),
                on,
                lambda archive: (
                    archive.cone_search(CATALOG, np.stack(many, axis=1), radius, progress=False).docs
                ),
            ),
            _hits,
        ),
        "find one object's alerts": _Question(
            len(names),
            _four(
                lambda: [by_hand.alerts(on.sql, name) for name in names],
                lambda: [by_hand.duck_alerts(on.duck, name) for name in names],
                on,
                lambda archive: [archive.find(CATALOG, {"objectId": name}).docs for name in names],
            ),
            lambda answer: [sorted(part, key=_candid) for part in answer],
            ("the files of the export are in the order of the sky, and have no index",),
        ),
        "one object with its history": _Question(
            len(names),
            {
                SQL: lambda: [by_hand.object_with_history(on.sql, name) for name in names],
                OURS: lambda: [on.archive.object(name) for name in names],
            },
            _objects,
            ("the bare side decodes the entries and makes no points and no light curve of them",),
        ),
        "count a range of magnitudes": _Question(
            1,
            _four(
                lambda: by_hand.count(on.sql),
                lambda: by_hand.duck_rows(
                    on.duck,
                    'SELECT count(*) FROM {} WHERE "candidate.magpsf" >= ? AND "candidate.magpsf" < ?',
                    [BRIGHT, FAINT],
                )[0][0],
                on,
                lambda archive: archive.count(CATALOG, between),
            ),
            lambda answer: [answer],
            ("SQLite has an index of this field on both sides",),
        ),
        "mean magnitude by filter": _mean(on, "candidate.fid"),
        "mean magnitude by object": _mean(on, "objectId"),
    }


def _mean(on: _Engines, by: str) -> _Question:
    """Ask for the mean magnitude of groups."""
    pipeline = [{"$group": {"_id": f"${by}", "mean": {"$avg": "$candidate.magpsf"}}}]
    key, magnitude = (f"json_extract(document, '$.{path}')" for path in (by, "candidate.magpsf"))
    return _Question(
        1,
        _four(
            lambda: on.sql.execute(f"SELECT {key}, avg({magnitude}) FROM {CATALOG} GROUP BY 1").fetchall(),
            lambda: by_hand.duck_rows(
                on.duck, f'SELECT "{by}", avg("candidate.magpsf") FROM {{}} GROUP BY 1'
            ),
            on,
            lambda archive: archive.aggregate(CATALOG, pipeline).docs,
        ),
        lambda answer: sorted(tuple(row.values()) if isinstance(row, dict) else row for row in answer),
        ("by hand the groups are tuples and no documents",),
    )


def _four(
    sql: Callable[[], Any], duck: Callable[[], Any], on: _Engines, ours: Callable[[Any], Any]
) -> dict[str, Callable[[], Any]]:
    return {SQL: sql, OURS: lambda: ours(on.archive), DUCK: duck, OURS_ON_DUCK: lambda: ours(on.export)}


def _same(one: Any, other: Any) -> bool:
    """Compare answers; distances and means by two formulas agree but for rounding."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-6
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _hits(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort hits and take out the number of the position, which the bare sides don't give."""
    plain = [{name: value for name, value in hit.items() if name != "input_index"} for hit in found]
    return sorted(plain, key=_candid)


def _candid(document: dict[str, Any]) -> int:
    return int(document["candid"])


def _objects(found: list[Any]) -> list[Any]:
    return [
        (item[0], len(item[0]) + len(item[1]))
        if isinstance(item, tuple)
        else (item.alerts, len(item.light_curve))
        for item in found
    ]


def _duration_ms(ask: Callable[[], Any], times: int) -> Callable[[], float]:
    def measure() -> float:
        begin = perf_counter()
        ask()
        return (perf_counter() - begin) * 1000 / times

    return measure


# Loading -------------------------------------------------------------------------------------------------------------


def _loading(folder: Path, scale: Scale) -> Table:
    """Load a reference catalog, beside SQLite with rows that are made already."""
    count = scale.of(200_000, 20_000)
    rng = np.random.default_rng(3)
    stars = QTable({
        "source_id": rng.integers(10**17, 9 * 10**18, count),
        "ra": rng.uniform(0, 360, count) * u.deg,
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, count))) * u.deg,
        "phot_g_mean_mag": rng.normal(18, 2, count).astype(np.float32),
        "parallax": np.where(rng.random(count) < 0.1, np.nan, rng.normal(1, 1, count)),
    })  # fmt: skip
    with open_archive(folder / "first.db") as first:
        check(first.load_catalog(_STARS, stars, progress=False).rows == count, "rows were not loaded")
    columns = "id, _id, ra, dec, hpx, document, extras"
    with contextlib.closing(Database(folder / "first.db", read_only=True)) as made:
        rows = made.connection.execute(f"SELECT {columns} FROM {_STARS}").fetchall()

    def ready_made() -> float:
        path = folder / "by_hand.db"
        path.unlink(missing_ok=True)
        with contextlib.closing(Database(path, read_only=False)) as database:
            begin = perf_counter()
            with database.writing() as sql:
                database.create_reference("making")
                sql.executemany(f"INSERT INTO making ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                database.publish_reference("making", _STARS)
            return count / (perf_counter() - begin)

    def ours() -> float:
        path = folder / "ours.db"
        path.unlink(missing_ok=True)
        with open_archive(path) as archive:
            begin = perf_counter()
            archive.load_catalog(_STARS, stars, progress=False)
            return count / (perf_counter() - begin)

    measured = interleaved({"executemany": ready_made, "load_catalog": ours}, scale.runs)
    table = Table(f"archive: loading a reference catalog of {count:,} rows", "rows/s")
    table.add("executemany", measured)
    table.add("load_catalog", measured, to="executemany")
    table.notes.append(
        "executemany is given the rows ready made, with cells and JSON; load_catalog makes them of a table"
    )
    return table
