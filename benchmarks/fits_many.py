"""The headers of a night's files, beside astropy in 32 threads."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import fits_peers
from benchmarks.fits_peers import HEADER_CACHES
from benchmarks.fits_store import size_text, store_of, time_table
from benchmarks.measure import Goal
from nuncius import open_fits, read_headers, scan_headers
from nuncius.cloudfits.many import read_async_headers
from nuncius.cloudfits.walk import OVERREAD
from nuncius.sandbox import fits_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.fits_peers import Chosen
    from benchmarks.fits_store import Place
    from benchmarks.measure import Scale, Table

_THREADS = 32


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    count = scale.of(1000, 100)
    with store_of(fits_files.night(count)) as place:
        urls = [place.store.http_url(f"exposure-{number:07d}.fits") for number in range(count)]
        best = _best_of_astropy(place, urls)
        offsets = [hdu.header_offset for hdu in open_fits(urls[0])]
        with tempfile.TemporaryDirectory(prefix="nuncius-benchmark-") as folder:
            ours = _ours(urls, Path(folder))
            floor = {"obstore alone, two ranges of each": lambda: asyncio.run(_bare(urls, offsets))}
            measured = place.compare(best.sides | ours | floor, scale.runs)
    title = f"fits: a keyword of each of 3 HDUs of {count} files"
    table = time_table(title, measured, best.beside(ours | floor), {name: Goal("≥", 2) for name in ours})
    table.notes += best.notes
    table.notes.append(
        "files a second: "
        + ", ".join(f"{name} {count / measured.median(name, 'seconds'):.0f}" for name in measured.costs)
    )
    yield table


def _ours(urls: list[str], folder: Path) -> dict[str, Callable[[], Any]]:
    def raw() -> Any:
        files = read_headers(urls, progress=False)
        return sorted([(hdu.name, hdu.get("EXPOSURE")) for file in files for hdu in file])

    def parsed() -> Any:
        files = read_headers(urls, progress=False)
        return sorted([(hdu.name, hdu.header["EXPOSURE"]) for file in files for hdu in file])

    async def asynchronous() -> Any:
        return sorted(
            [(hdu.name, hdu.get("EXPOSURE")) async for file in read_async_headers(urls) for hdu in file]
        )

    def scanned() -> Any:
        table = scan_headers(urls, keywords=["EXPOSURE"], progress=False)
        return sorted(zip(*(table[name].to_pylist() for name in ("extname", "EXPOSURE")), strict=True))

    def written() -> Any:
        out = folder / "headers.parquet"
        index = scan_headers(urls, keywords=["EXPOSURE"], out=out, progress=False)
        found = sorted(zip(*(index.table[name].to_pylist() for name in ("extname", "EXPOSURE")), strict=True))
        out.unlink()
        return found

    return {
        "nuncius, read_headers, .get": raw,
        "nuncius, read_headers, .header": parsed,
        "nuncius, aio.read_headers, .get": lambda: asyncio.run(asynchronous()),
        "nuncius, scan_headers": scanned,
        "nuncius, scan_headers to Parquet": written,
    }


def _best_of_astropy(place: Place, urls: list[str]) -> Chosen:
    if not fits_peers.has_http():
        return fits_peers.Chosen(None, {}, fits_peers.missing())
    names = ("default cache", "bytes 64 KiB", "readahead 28.8 kB")
    sides = {
        f"astropy, {name}, {_THREADS} threads": lambda cache=HEADER_CACHES[name]: _astropy(urls, cache)
        for name in names
    }
    best = fits_peers.choose(place, sides)
    some = urls[:20]
    cost = place.cost(lambda: _sequential(some, HEADER_CACHES["bytes 64 KiB"]))[0]
    best.notes.append(
        f"astropy in one thread, bytes 64 KiB: {len(some) / cost.seconds:.1f} files a second, "
        f"{cost.requests / len(some):.1f} requests and {size_text(cost.bytes / len(some))} a file"
    )
    return best


def _keywords(url: str, cache: Mapping[str, Any]) -> list[Any]:
    with fits_peers.open_http(url, cache) as hdus:
        return [(hdu.name, hdu.header["EXPOSURE"]) for hdu in hdus]


def _astropy(urls: list[str], cache: Mapping[str, Any]) -> Any:
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda url: _keywords(url, cache), urls)
        return sorted(pair for file in found for pair in file)


def _sequential(urls: list[str], cache: Mapping[str, Any]) -> Any:
    return [_keywords(url, cache) for url in urls]


async def _bare(urls: list[str], offsets: list[int]) -> Any:
    """Read as many ranges with the client alone, 100 files side by side; the headers are looked at, but not understood."""
    import obstore
    from obstore.store import HTTPStore

    store = HTTPStore(urls[0].rpartition("/")[0], client_options={"allow_http": True})
    slots = asyncio.Semaphore(100)

    async def read(url: str) -> list[tuple[str, str]]:
        path = url.rpartition("/")[2]
        async with slots:
            first = await obstore.get_range_async(store, path, start=0, length=OVERREAD)
            second = await obstore.get_range_async(store, path, start=offsets[2], length=OVERREAD)
        places = (("PRIMARY", first, 0), ("CCD1", first, offsets[1]), ("CCD2", second, 0))
        return [(name, _exposure(bytes(data), start)) for name, data, start in places]

    files = await asyncio.gather(*map(read, urls))
    return sorted(pair for file in files for pair in file)


def _exposure(data: bytes, start: int) -> str:
    at = data.index(b"EXPOSURE= '", start) + len("EXPOSURE= '")
    return data[at : data.index(b"'", at)].decode()
