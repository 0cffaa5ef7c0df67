"""Remote files with astropy and fsspec, and the setting of their cache with which they are fastest."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fits_store import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from astropy.io.fits import HDUList

    from benchmarks.fits_store import Place

    Open = Callable[[], HDUList]

KILO = 1024
HEADER_CACHES: dict[str, dict[str, Any]] = {
    "default cache": {},
    "bytes 28.8 kB": {"cache_type": "bytes", "block_size": 28_800},
    "bytes 64 KiB": {"cache_type": "bytes", "block_size": 64 * KILO},
    "readahead 28.8 kB": {"cache_type": "readahead", "block_size": 28_800},
    "readahead 64 KiB": {"cache_type": "readahead", "block_size": 64 * KILO},
    "no cache": {"cache_type": "none", "block_size": 64 * KILO},
}
PIECE_CACHES = {
    **{name: HEADER_CACHES[name] for name in ("default cache", "bytes 64 KiB", "readahead 64 KiB")},
    "bytes 1 MiB": {"cache_type": "bytes", "block_size": KILO**2},
    "no cache": HEADER_CACHES["no cache"],
}


def has_http() -> bool:
    """Tell whether fsspec can read links."""
    return bool(find_spec("fsspec") and find_spec("aiohttp"))


def has_s3() -> bool:
    """Tell whether fsspec can read S3, with an s3fs of the same age: old ones can't be told an endpoint."""
    return bool(find_spec("s3fs")) and _version("s3fs") >= "2024"


def versions() -> str:
    """Return which versions the peers have."""
    names = ("fsspec", "aiohttp", "s3fs", "fitsio")
    found = [f"{name} {_version(name)}" for name in names if _version(name)]
    return ", ".join(found) or "no peers"


def missing() -> list[str]:
    """Say what is not compared because it isn't installed."""
    notes = []
    if not has_http():
        notes.append("astropy with fsspec is not compared: pip install fsspec aiohttp")
    if not has_s3():
        notes.append("astropy with s3fs is not compared: pip install 's3fs>=2024'")
    return notes


def open_http(url: str, cache: Mapping[str, Any]) -> HDUList:
    """Open a link."""
    from astropy.io import fits

    return fits.open(url, use_fsspec=True, fsspec_kwargs=dict(cache))


def open_s3(place: Place, key: str, cache: Mapping[str, Any]) -> HDUList:
    """Open an object of the store's S3 interface."""
    from astropy.io import fits

    store = place.store
    options = {f"default_{name}": value for name, value in cache.items()}
    options |= {"key": store.access_key, "secret": store.secret_key, "endpoint_url": store.s3_endpoint}
    return fits.open(store.s3_url(key), use_fsspec=True, fsspec_kwargs=options)


def opened(read: Callable[[HDUList], Any]) -> Callable[[Open], Any]:
    """Return what opens a file with astropy, reads from it and closes it."""

    def opened_and_read(open_file: Open) -> Any:
        with open_file() as hdus:
            return read(hdus)

    return opened_and_read


def candidates(
    place: Place, key: str, read: Callable[[Open], Any], caches: Mapping[str, Mapping[str, Any]]
) -> dict[str, Callable[[], Any]]:
    """Return how astropy reads a link, for each setting of the cache."""
    if not has_http():
        return {}
    url = place.store.http_url(key)
    return {
        f"astropy, {name}": lambda cache=cache: read(lambda: open_http(url, cache))
        for name, cache in caches.items()
    }


def s3_candidates(place: Place, key: str, read: Callable[[Open], Any]) -> dict[str, Callable[[], Any]]:
    """Return how astropy reads over S3: as it comes, and with a cache for headers."""
    if not has_s3():
        return {}
    names = ("default cache", "bytes 64 KiB")
    return {
        f"astropy, s3fs, {name}": lambda cache=HEADER_CACHES[name]: read(lambda: open_s3(place, key, cache))
        for name in names
    }


class Chosen(NamedTuple):
    """The fastest way in which a peer reads, if there is a peer."""

    name: str | None
    sides: dict[str, Callable[[], Any]]
    """That one alone; empty without a peer."""
    notes: list[str]

    def beside(self, ours: Iterable[str]) -> dict[str, str]:
        """Say that these sides are compared with it, if it is there."""
        return {name: self.name for name in ours if self.name}


def choose(place: Place, sides: Mapping[str, Callable[[], Any]]) -> Chosen:
    """Return the fastest side, and what each of them cost when it read once."""
    if not sides:
        return Chosen(None, {}, [])
    next(iter(sides.values()))()  # now its modules are imported
    costs = {name: place.cost(read)[0] for name, read in sides.items()}
    best = min(costs, key=lambda name: costs[name].seconds)
    tried = [
        f"{name.removeprefix('astropy, ')} {cost.seconds:.2f} s with {cost.requests} requests and {size_text(cost.bytes)}"
        for name, cost in costs.items()
    ]
    return Chosen(best, {best: sides[best]}, [f"what was tried of astropy, once each: {'; '.join(tried)}"])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
