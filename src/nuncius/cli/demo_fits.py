"""The demo's chapter on FITS files in object stores: a cube of many gigabytes, of which little is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nuncius.cloudfits import open_fits
from nuncius.sandbox.fits_files.cubes import tess_cube

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.sandbox import SandboxStore

_ROWS, _COLUMNS, _FRAME = slice(1000, 1011), slice(500, 511), 640


@dataclass(frozen=True, slots=True)
class Cube:
    """What was read, for the summary.

    Parameters
    ----------
    size : int
        Of the file, in bytes.
    hdus : int
        Whose headers were read.
    header_requests, header_bytes : int
        What the headers took.
    requests, bytes : int
        What everything took.
    """

    size: int
    hdus: int
    header_requests: int
    header_bytes: int
    requests: int
    bytes: int


def read_a_cube(store: SandboxStore, say: Callable[[str], None]) -> Cube:
    """Read the headers, a cutout and a time series of a cube in a store."""
    store.put("tess-s0022-4-4-cube.fits", tess_cube())
    with open_fits(
        store.s3_url("tess-s0022-4-4-cube.fits"),
        endpoint=store.s3_endpoint,
        credentials=(store.access_key, store.secret_key),
    ) as fits:
        header_requests, header_bytes = fits.stats.requests, fits.stats.bytes
        say(
            f"A cube of [bold]{fits.size / 1e9:.1f} GB[/bold] lies in an object store. The headers of its {len(fits)} HDUs "
            f"took {header_requests} requests and {header_bytes / 1000:.0f} kB."
        )
        cutout = fits["PIXELS"].section[_ROWS, _COLUMNS, _FRAME, 0]
        series = fits["PIXELS"].section[1005, 505, :, 0]
        times = fits["FFIS"].columns(["START_TJD"])
        done = Cube(
            fits.size, len(fits), header_requests, header_bytes, fits.stats.requests, fits.stats.bytes
        )
    say(
        f"A cutout of {cutout.shape[1]} x {cutout.shape[0]} pixels, a time series of {len(series)} frames and the "
        f"{len(times)} times of a table: in all {done.requests} requests and [bold]{done.bytes / 1e6:.1f} MB[/bold], "
        f"a {done.size / done.bytes:,.0f}th of the file."
    )
    return done
