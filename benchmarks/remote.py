"""Ten thousand positions over HTTP, and the decoding of a large answer, beside penquins.

The server is `nuncius serve` on loopback, in a process of its own; penquins and nuncius ask the same one. So what differs
is what the clients do: how many requests they make, how they wait for them, and how they read the answers.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import astropy.units as u
import numpy as np

from benchmarks.measure import Goal, Table, check, interleaved
from benchmarks.night import CATALOG, centres, fill
from benchmarks.packets import synthetic
from nuncius import open_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Scale

_RADIUS_ARCSEC = 2.0
_TIMEOUT_S = 120  # penquins waits 5 s by default, and then sends the whole question again
_ANSWER_MB = 15


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    yield from _positions(scale)
    yield from _decoding(scale)


# Positions -----------------------------------------------------------------------------------------------------------


def _positions(scale: Scale) -> Iterator[Table]:
    rows, count, sample = scale.of(200_000, 20_000), scale.of(10_000, 1_000), scale.of(500, 100)
    with tempfile.TemporaryDirectory(prefix="nuncius-benchmark-") as folder:
        path = Path(folder, "archive.db")
        ra, dec = fill(path, rows)
        places = centres(np.random.default_rng(2), ra, dec, count)
        named = {f"p{index}": pair for index, pair in enumerate(np.stack(places, axis=1).tolist())}
        with _server(path) as box, open_archive(box["url"], token=box["token"]) as archive:
            theirs, name = _penquins(box)

            def singles() -> float:
                begin = perf_counter()
                for key in list(named)[:sample]:
                    theirs(_question({key: named[key]}))
                return sample / (perf_counter() - begin)

            def whole() -> float:
                begin = perf_counter()
                theirs(_question(named))
                return count / (perf_counter() - begin)

            def ours() -> float:
                begin = perf_counter()
                archive.cone_search(CATALOG, named, _RADIUS_ARCSEC * u.arcsec, progress=False).docs  # noqa: B018
                return count / (perf_counter() - begin)

            found = archive.cone_search(
                CATALOG, named, _RADIUS_ARCSEC * u.arcsec, progress=False
            ).by_position()
            check(_ids(found) == _ids(theirs(_question(named))), "what was found around the positions")
            one, many = f"{name}, one request a position", f"{name}, one request for all"
            mine = "nuncius, requests of up to 1000"
            measured = interleaved({one: singles, many: whole, mine: ours}, scale.runs)
    table = Table(
        f'remote: {count:,} cones of {_RADIUS_ARCSEC:g}" over HTTP, in {rows:,} alerts', "positions/s"
    )
    table.add(one, measured)
    table.add(many, measured, to=one, label="the first")
    table.add(mine, measured, to=one, label="the first", goal=Goal("≥", 8))
    table.add(
        "the same", {**measured, "the same": measured[mine]}, to=many, label="the second", goal=Goal("≥", 1)
    )
    table.notes.append(f"one request a position is measured with {sample} of them, one after the other")
    table.notes.append(
        "nuncius computes separations and sorts by them; penquins gives the documents as they come"
    )
    yield table


def _question(places: dict[str, list[float]]) -> dict[str, Any]:
    """Ask for cones as Kowalski's interface has it."""
    return {
        "query_type": "cone_search",
        "query": {
            "object_coordinates": {
                "cone_search_radius": _RADIUS_ARCSEC, "cone_search_unit": "arcsec", "radec": places,
            },
            "catalogs": {CATALOG: {"filter": {}, "projection": {}}},
        },
    }  # fmt: skip


def _ids(found: dict[Any, list[dict[str, Any]]]) -> dict[Any, list[int]]:
    return {name: sorted(document["candid"] for document in documents) for name, documents in found.items()}


def _penquins(box: dict[str, Any]) -> tuple[Callable[[dict[str, Any]], Any], str]:
    """Return what asks a question and gives the documents by position, and its name."""
    if find_spec("penquins") is not None:
        import penquins

        kowalski = penquins.Kowalski(
            token=box["token"], protocol="http", host="127.0.0.1", port=box["port"], timeout=_TIMEOUT_S
        )
        return lambda query: kowalski.query(query=query)["default"]["data"][
            CATALOG
        ], f"penquins {penquins.__version__}"
    import requests
    from bson.json_util import loads

    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = box["token"]
    url = f"http://127.0.0.1:{box['port']}/api/queries"
    return (
        lambda query: loads(session.post(url, json=query, timeout=_TIMEOUT_S).text)["data"][CATALOG],
        "requests and json_util, as in penquins",
    )


@contextlib.contextmanager
def _server(path: Path) -> Iterator[dict[str, Any]]:
    """Serve an archive from another process."""
    command = [sys.executable, "-m", "benchmarks.remote", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        check(bool(line), "the server did not start")
        try:
            yield json.loads(line)
        finally:
            process.stdin.close()


def _serve(path: str) -> None:
    """Be that process, until nobody listens any more."""
    from nuncius.sandbox.kowalski import SandboxKowalski

    with SandboxKowalski(archive=path) as box:
        report = {"url": box.url, "port": urlsplit(box.http_url).port, "token": box.token}
        print(json.dumps(report), flush=True)
        sys.stdin.read()


# Decoding ------------------------------------------------------------------------------------------------------------


def _decoding(scale: Scale) -> Iterator[Table]:
    from bson.json_util import JSONOptions, loads

    from nuncius.archives.extended_json import from_json

    in_utc = JSONOptions(tz_aware=True)  # penquins leaves the zone out
    theirs, ours = "json_util, as penquins", "nuncius"
    size = scale.of(_ANSWER_MB, 3)
    for kind, with_images in (("without images", False), ("with images", True)):
        body = _answer(size * 1_000_000, with_images=with_images)
        check(loads(body.decode(), json_options=in_utc) == from_json(body), f"documents {kind}")
        sides = {theirs: _speed(lambda body: loads(body.decode()), body), ours: _speed(from_json, body)}
        measured = interleaved(sides, scale.runs)
        table = Table(f"remote: decoding an answer of {size} MB with alerts {kind}", "MB/s")
        table.add(theirs, measured)
        table.add(ours, measured, to=theirs, goal=Goal("≥", 2.5))
        yield table


def _speed(decode: Callable[[bytes], Any], body: bytes) -> Callable[[], float]:
    def measure() -> float:
        begin = perf_counter()
        decode(body)
        return len(body) / 1e6 / (perf_counter() - begin)

    return measure


def _answer(size: int, *, with_images: bool) -> bytes:
    """Return an answer of about that many bytes, as Kowalski writes it."""
    from datetime import UTC, datetime

    from bson import ObjectId, json_util

    from nuncius import Alert
    from nuncius.archives.documents import Contents, coordinates_of, survey_of

    documents: list[dict[str, Any]] = []
    for alert in map(Alert.from_bytes, synthetic(100)):
        (coordinates,) = coordinates_of([(alert.ra, alert.dec)])
        images = survey_of(alert).cutout_fields if with_images else ()
        documents.append({
            "_id": ObjectId(), **Contents(alert, "document").document, "coordinates": coordinates,
            "created_at": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
            **{field: alert.packet[field] for field in images},
        })  # fmt: skip
    texts = [json_util.dumps(document, json_options=json_util.RELAXED_JSON_OPTIONS) for document in documents]
    many = round(size / (sum(map(len, texts)) / len(texts)))
    data = ", ".join(texts[index % len(texts)] for index in range(many))
    return f'{{"status": "success", "message": "Successfully executed query", "data": [{data}]}}'.encode()


if __name__ == "__main__":
    _serve(sys.argv[1])
