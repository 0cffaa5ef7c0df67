"""Pieces of remote images and tables, beside astropy with fsspec: cutouts, time series, rows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks import fits_peers
from benchmarks.fits_peers import PIECE_CACHES, opened
from benchmarks.fits_store import BANDWIDTH, OURS, opened_by_us, store_of, time_table
from benchmarks.measure import Goal, Row
from nuncius import aio, open_fits, scan_headers
from nuncius.sandbox import fits_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from astropy.io.fits import HDUList

    from benchmarks.fits_peers import Chosen
    from benchmarks.fits_store import Place
    from benchmarks.measure import Scale, Table
    from nuncius.cloudfits import RemoteFits

_KEY = "one.fits"
_COLUMNS = ("ID", "RA", "DEC", "MJD", "MAG_3", "NOBS")
_DEFAULT = "astropy, default cache"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    yield from _pieces(scale)
    yield from _colours(scale)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a file, and how the sides read the one of a number."""

    title: str
    data: Any
    theirs: Callable[[Any, int], Any]
    ours: Callable[[Any, int], Any]
    goal: Goal | None
    wanted: int
    """Bytes that the values have in the file; 0 where they are compressed."""
    again: bool = True
    """Whether astropy too reads further pieces of an open file; of a table it has read all rows with the first."""
    hdus: int | None = None
    """How many HDUs suffice, where there are more."""
    bandwidth: float = BANDWIDTH


def _pieces(scale: Scale) -> Iterator[Table]:
    side = scale.of(4096, 1024)
    pixels, cards = _noise(side), fits_files.tan_wcs((side, side))
    rows = scale.of(200_000, 20_000)
    image = fits_files.sky_image((side, side))
    shown = f"100x100 pixels of {side}x{side} int16"
    yield from _compared(
        _Piece(f"{shown}, at a SkyCoord", image, _cutout(0), _our_cutout(0), Goal("≥", 5), 20_000), scale
    )
    home = f"{shown}, at a SkyCoord and over a line of 12.5 MB/s"
    yield from _compared(
        _Piece(home, image, _cutout(0), _our_cutout(0), Goal("≥", 5), 0, bandwidth=12.5e6), scale
    )
    for name, tile in (("rows", (1, side)), ("256x256", (256, 256))):
        packed = fits_files.compressed_image(array=pixels, tile_shape=tile, cards=cards)
        piece = _Piece(
            f"{shown}, compressed by tiles of {name}", packed, _cutout(1), _our_cutout(1), Goal("≥", 5), 0
        )
        yield from _compared(piece, scale)
    yield from _compared(
        _Piece(
            "5x5x1282 pixels (flux and error) of a cube of 45.5 GB",
            fits_files.tess_cube(), _series, _our_series, Goal("≥", 15), 5 * 5 * 1282 * 2 * 4, hdus=2,
        ),
        scale,
    )  # fmt: skip
    yield from _compared(
        _Piece(f"100 rows of {rows:,} of 72 bytes", fits_files.large_table(rows), _rows, _our_rows, None, 7200, again=False),
        scale,
    )  # fmt: skip


def _noise(side: int) -> Any:
    import numpy as np

    return np.random.default_rng(1).normal(100, 12, (side, side)).astype("i2")


def _compared(piece: _Piece, scale: Scale) -> Iterator[Table]:
    with store_of({_KEY: piece.data}) as near:
        place = replace(near, bandwidth=piece.bandwidth)
        url = place.store.http_url(_KEY)
        read = opened(lambda hdus: piece.theirs(hdus, 0))
        peers = fits_peers.candidates(place, _KEY, read, PIECE_CACHES)
        best = fits_peers.choose(place, peers)
        best_s3 = fits_peers.choose(place, fits_peers.s3_candidates(place, _KEY, read))
        index = scan_headers([url], progress=False)
        ours = {
            OURS: opened_by_us(url, lambda file: piece.ours(file, 0)),
            f"{OURS}, index=": opened_by_us(url, lambda file: piece.ours(file, 0), index=index),
        }
        if piece.hdus:
            ours[f"{OURS}, hdus={piece.hdus}"] = opened_by_us(
                url, lambda file: piece.ours(file, 0), hdus=piece.hdus
            )
        default = {_DEFAULT: peers[_DEFAULT]} if peers else {}
        measured = place.compare(default | best.sides | ours, scale.runs)
        beside = dict.fromkeys(ours, _DEFAULT) if peers else {}
        title = f"fits: {piece.title}, with the opening of the file"
        table = time_table(title, measured, beside, dict.fromkeys(ours, piece.goal))
        if best.name and best.name != _DEFAULT:
            rows = time_table("", measured, best.beside(ours)).rows[-len(ours) :]
            table.rows += [replace(row, name=f"{row.name.partition('  ')[0]}, again") for row in rows]
        table.notes += [*best.notes, *best_s3.notes]
        yield table
        if piece.bandwidth == BANDWIDTH:
            yield _of_open_file(piece, place, url, best, scale)


def _of_open_file(piece: _Piece, place: Place, url: str, best: Chosen, scale: Scale) -> Table:
    """Read further pieces of a file that is open, each from another place."""
    numbers = {name: itertools.count(1) for name in (*best.sides, OURS)}
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_fits(url))
        sides = {OURS: lambda: piece.ours(file, next(numbers[OURS]))}
        if piece.again:
            sides = {name: _again(piece, stack, url, name, numbers[name]) for name in best.sides} | sides
        measured = place.compare(sides, scale.runs)
    beside = best.beside([OURS]) if piece.again else {}
    table = time_table(f"fits: {piece.title}, of an open file", measured, beside)
    if piece.wanted:
        size = measured.values(OURS, "bytes")
        ratio = [count / piece.wanted for count in size]
        goal = None if piece.again else Goal("≤", 2)
        table.rows.append(Row(f"{OURS}, bytes", size, ratio, "those of the values", goal))
    return table


def _again(
    piece: _Piece, stack: contextlib.ExitStack, url: str, name: str, numbers: Iterator[int]
) -> Callable[[], Any]:
    hdus = stack.enter_context(fits_peers.open_http(url, PIECE_CACHES[name.removeprefix("astropy, ")]))
    return lambda: piece.theirs(hdus, next(numbers))


def _position(wcs: Any, number: int) -> Any:
    """Return the middle of the image for 0, and for other numbers other places, far from those before."""
    height, width = wcs.array_shape
    x, y = width // 2 + 71 * number, height // 2 + 537 * number
    return wcs.pixel_to_world(100 + (x - 100) % (width - 200), 100 + (y - 100) % (height - 200))


def _cutout(hdu: int) -> Callable[[HDUList, int], Any]:
    def read(hdus: HDUList, number: int) -> Any:
        from astropy.nddata import Cutout2D
        from astropy.wcs import WCS

        wcs = WCS(hdus[hdu].header)
        return Cutout2D(hdus[hdu].section, _position(wcs, number), 100, wcs=wcs).data

    return read


def _our_cutout(hdu: int) -> Callable[[RemoteFits, int], Any]:
    def read(file: RemoteFits, number: int) -> Any:
        from astropy.wcs import WCS

        wcs = WCS(file[hdu].header)
        return file[hdu].cutout(_position(wcs, number), 100, wcs=wcs).data

    return read


def _series(hdus: HDUList, number: int) -> Any:
    at = 100 + 37 * number
    return hdus[1].section[at : at + 5, 700:705]


def _our_series(file: RemoteFits, number: int) -> Any:
    at = 100 + 37 * number
    return file[1].section[at : at + 5, 700:705]


def _rows(hdus: HDUList, number: int) -> Any:
    rows = hdus[1].data[10_000 + 100 * number : 10_100 + 100 * number]
    return [rows[name].tolist() for name in _COLUMNS]


def _our_rows(file: RemoteFits, number: int) -> Any:
    rows = file[1].rows(10_000 + 100 * number, 10_100 + 100 * number)
    return [rows[name].tolist() for name in _COLUMNS]


# Both colours --------------------------------------------------------------------------------------------------------


def _colours(scale: Scale) -> Iterator[Table]:
    """Read small sections one after the other, of a store that answers at once: what is left is our own work."""
    import obstore
    from obstore.store import HTTPStore

    count = scale.of(300, 50)
    with store_of({_KEY: fits_files.sky_image((1024, 1024))}) as near:
        place = replace(near, latency_s=0.0)
        url = place.store.http_url(_KEY)
        store = HTTPStore(url, client_options={"allow_http": True})
        file = open_fits(url)

        def sync() -> int:
            return sum(file[0].section[100 + row, :50].size for row in range(count))

        async def asynchronous() -> int:
            async with aio.open_fits(url) as opened:
                return sum([(await opened[0].section[100 + row, :50]).size for row in range(count)])

        async def side_by_side() -> int:
            async with aio.open_fits(url) as opened:
                sections = (opened[0].section[100 + row, :50] for row in range(count))
                return sum(section.size for section in await asyncio.gather(*sections))

        async def bare() -> int:
            ranges = [2048 * (100 + row) for row in range(count)]
            return (
                sum([len(await obstore.get_range_async(store, "", start=at, length=100)) for at in ranges])
                // 2
            )

        sides = {
            "obstore alone, one after the other": lambda: asyncio.run(bare()),
            f"{OURS}, sync": sync,
            f"{OURS}, async": lambda: asyncio.run(asynchronous()),
            f"{OURS}, async, side by side": lambda: asyncio.run(side_by_side()),
        }
        measured = place.compare(sides, scale.runs)
    first, *others = sides
    title = f"fits: {count} sections of 100 bytes, of a store that answers at once"
    table = time_table(title, measured, dict.fromkeys(others, first))
    for name in sides:
        each = measured.median(name, "seconds") / count * 1e6
        cpu = measured.median(name, "cpu_s") / count * 1e6
        table.notes.append(f"{name}: {each:.0f} µs each, {cpu:.0f} µs of processor time")
    yield table
