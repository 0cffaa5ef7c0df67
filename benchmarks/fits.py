"""Headers and pieces of remote FITS files, beside astropy with fsspec and the setting of its cache that is fastest.

Each side opens the file anew in every run and answers the same question; the answers are compared first. What it costs is
counted by the store (`fits_store.py`). Connections are open already, on all sides, unless a title says otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import fits_cpu, fits_many, fits_peers, fits_pieces
from benchmarks.fits_peers import HEADER_CACHES, opened
from benchmarks.fits_store import LATENCY_S, OURS, Measured, opened_by_us, store_of, time_table
from benchmarks.measure import Goal, Row, Table, check
from nuncius import open_fits
from nuncius.sandbox import fits_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from astropy.io.fits import HDUList

    from benchmarks.fits_store import Cost, Place
    from benchmarks.measure import Scale
    from nuncius.cloudfits import RemoteFits

_GET = f"{OURS}, .get"
_KEY = "one.fits"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    yield from _many_hdus(scale)
    yield from _first_contact(scale)
    yield from _cube(scale)
    yield from fits_pieces.tables(scale)
    yield from fits_many.tables(scale)
    yield from fits_cpu.tables(scale)


def _keywords(hdus: HDUList) -> list[Any]:
    return [(hdu.name, hdu.header["EXPOSURE"]) for hdu in hdus]


def _our_keywords(file: RemoteFits) -> list[Any]:
    return [(hdu.name, hdu.get("EXPOSURE")) for hdu in file]


def _our_headers(file: RemoteFits) -> list[Any]:
    return [(hdu.name, hdu.header["EXPOSURE"]) for hdu in file]


def _many_hdus(scale: Scale) -> Iterator[Table]:
    count = scale.of(100, 30)
    with store_of({_KEY: fits_files.many_hdus(count=count)}) as place:
        read = opened(_keywords)
        best = fits_peers.choose(place, fits_peers.candidates(place, _KEY, read, HEADER_CACHES))
        best_s3 = fits_peers.choose(place, fits_peers.s3_candidates(place, _KEY, read))
        url = place.store.http_url(_KEY)
        ours = {_GET: opened_by_us(url, _our_keywords), f"{OURS}, .header": opened_by_us(url, _our_headers)}
        over_s3 = {
            f"{OURS}, .get, over S3": opened_by_us(place.store.s3_url(_KEY), _our_keywords, **_s3(place))
        }
        measured = place.compare(best.sides | ours | best_s3.sides | over_s3, scale.runs)
        with open_fits(url) as file:
            size = sum(len(hdu.raw) for hdu in file)
    beside = best.beside(ours) | best_s3.beside(over_s3)
    title = f"fits: a keyword of each of {count + 1} HDUs, which are equally long; the headers have {size:,} bytes"
    table = time_table(title, measured, beside, dict.fromkeys(beside, Goal("≥", 20)))
    about = f"{LATENCY_S * 1e3:.0f} ms a request, 100 MB/s a connection; peers: {fits_peers.versions()}"
    table.notes += [about, *best.notes, *best_s3.notes, *fits_peers.missing()]
    yield table
    yield _budgets(f"fits: what the headers of {count + 1} HDUs cost", measured, best.name, size)
    yield from _layouts(scale, count)


def _layouts(scale: Scale, count: int) -> Iterator[Table]:
    """Read headers where less is known of where they are, or more."""
    files = {
        "equal": fits_files.many_hdus(count=count),
        "equal, no NEXTEND": fits_files.many_hdus(count=count, nextend=False),
        "period 3": fits_files.many_hdus("period 3", count=count // 3 * 3),
        "period 3, no NEXTEND": fits_files.many_hdus("period 3", count=count // 3 * 3, nextend=False),
        "small": fits_files.many_hdus("small", count=count),
        "random": fits_files.many_hdus("random", count=count),
        "long headers": fits_files.long_header(),
    }
    with store_of(files) as place:
        urls = {name: place.store.http_url(name) for name in files}
        sides = {name: opened_by_us(url, _names) for name, url in urls.items()}
        sibling = open_fits(urls["random"]).description
        sides["random, like= a file of the same layout"] = opened_by_us(urls["random"], _names, like=sibling)
        sides["equal, hdus=2"] = opened_by_us(urls["equal"], lambda file: file.names, hdus=2)
        measured = place.compare(sides, scale.runs, same=False)
    labels = measured.labels()
    table = Table(f"fits: {count + 1} headers by how the file repeats itself: round trips", "round trips")
    goals = {name: Goal("≤", 4) for name in sides if name.startswith(("equal", "small"))}
    for name in sides:
        trips = [float(cost.round_trips) for cost in measured.costs[name]]
        table.rows.append(Row(labels[name], trips, None, "", goals.get(name)))
    table.notes.append(
        "64 requests run side by side, so that 101 headers need two round trips even where all places are known; "
        "seconds: " + ", ".join(f"{name} {measured.median(name, 'seconds'):.2f}" for name in sides)
    )
    yield table


def _first_contact(scale: Scale) -> Iterator[Table]:
    """Read headers when no connection is open yet, each of which takes 100 ms, as one with TLS does."""
    count = scale.of(100, 30)
    file = fits_files.many_hdus(count=count)
    peer, read = "astropy, bytes 64 KiB", opened(_keywords)
    costs: dict[str, list[Cost]] = {peer: [], OURS: []}
    for _ in range(scale.of(3, 1)):
        with store_of({_KEY: file}, connection_latency_s=0.1) as place:
            url = place.store.http_url(_KEY)
            costs[OURS].append(place.cost(opened_by_us(url, _our_keywords))[0])
            if fits_peers.has_http():
                theirs = partial(fits_peers.open_http, url, HEADER_CACHES["bytes 64 KiB"])
                costs[peer].append(place.cost(partial(read, theirs))[0])
    beside = {OURS: peer} if costs.get(peer) else {}
    title = "fits: the same where each new connection costs 100 ms more, and none is open yet"
    yield time_table(title, Measured({name: runs for name, runs in costs.items() if runs}), beside)


def _cube(scale: Scale) -> Iterator[Table]:
    with store_of({_KEY: fits_files.tess_cube()}) as place:
        read = opened(_shapes)
        best = fits_peers.choose(place, fits_peers.candidates(place, _KEY, read, HEADER_CACHES))
        best_s3 = fits_peers.choose(place, fits_peers.s3_candidates(place, _KEY, read))
        ours = {OURS: opened_by_us(place.store.http_url(_KEY), _our_shapes)}
        measured = place.compare(best.sides | ours, scale.runs)
    table = time_table("fits: the headers of a cube of 45.5 GB", measured, best.beside(ours))
    table.notes += [*best.notes, *best_s3.notes]
    yield table
    table = Table("fits: what the headers of the cube cost", "")
    table.rows.append(Row(f"{OURS}, requests", measured.values(OURS, "requests"), goal=Goal("≤", 2)))
    yield table


def _names(file: RemoteFits) -> list[str]:
    return [hdu.name for hdu in file]


def _shapes(hdus: HDUList) -> list[Any]:
    return [(hdu.name, hdu.header["NAXIS"]) for hdu in hdus]


def _our_shapes(file: RemoteFits) -> list[Any]:
    return [(hdu.name, hdu.header["NAXIS"]) for hdu in file]


def _s3(place: Place) -> dict[str, Any]:
    store = place.store
    return {"endpoint": store.s3_endpoint, "credentials": (store.access_key, store.secret_key)}


def _budgets(title: str, measured: Measured, peer: str | None, size: int) -> Table:
    """Return a table of what does not depend on the clock."""
    table = Table(title, "")
    own = measured.values(_GET, "bytes")
    check(min(own) == max(own), "the bytes of two runs")
    ratio = [count / size for count in own]
    table.rows.append(Row(f"{OURS}, bytes", own, ratio, "those of the headers", Goal("≤", 1.1)))
    if peer:
        theirs = measured.values(peer, "bytes")
        ratio = [other / count for other, count in zip(theirs, own, strict=True)]
        table.rows.append(Row(f"{peer}, bytes", theirs, ratio, f"those of {OURS}", Goal("≥", 3)))
    table.rows.append(Row(f"{OURS}, round trips", measured.values(_GET, "round_trips"), goal=Goal("≤", 4)))
    return table
