"""The demo's chapter on data sets: from the name of an object to what a dserver has of it, and to a line of its spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.markup import escape

from nuncius.cli.fits_address import counted
from nuncius.datasets import open_dserver
from nuncius.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuncius.datasets import Item
    from nuncius.sandbox import Sandbox, SandboxStore

_H_ALPHA_NM = 656.28
_WIDTH_NM = 25


@dataclass(frozen=True, slots=True)
class Found:
    """What was found and read, for the summary.

    Parameters
    ----------
    object_id : str
        The object.
    data_sets, items : int
        How many data sets name it, and how many FITS files are in them.
    lookup_requests : int
        What finding them and the origin of the spectrum took.
    pixels : int
        How many of the spectrum were read.
    requests, bytes : int
        What opening the spectrum and reading them took.
    """

    object_id: str
    data_sets: int
    items: int
    lookup_requests: int
    pixels: int
    requests: int
    bytes: int


def look_up_data_sets(box: Sandbox, say: Callable[[str], None]) -> Found | None:
    """Search the data sets of a supernova, and read a line of its spectrum; None where no server can run."""
    from nuncius.sandbox.sky import SyntheticSky

    try:
        server = box.dserver
    except MissingExtraError as error:
        say(f"[yellow]No data sets: {escape(str(error))}[/yellow]")
        return None
    name = next(source.object_id for source in SyntheticSky().objects if source.kind == "supernova")
    before = len(server.requests)
    with open_dserver(server.url, token=server.token, authenticate=True, verify=True) as dserver:
        found = dserver.search(name)
        items = dserver.find_items("*.fits", found, progress=False)
        item = next(item for item in items if item.name == "spectrum.fits")
        graph = dserver.graph(next(row["uuid"] for row in found if row["uri"] == item.data_set_uri))
    asked = len(server.requests) - before
    origins = ", ".join(map(graph.name, graph.parents(graph.uuid)))
    say(
        f"A dserver has [bold]{len(found)}[/bold] data sets of the supernova {name}, with {len(items)} FITS files in them. To "
        f"find them, and that the spectrum was made from {origins}, took {asked} requests."
    )
    pixels, depth, requests, read = _read_line(item, box.store)
    say(
        f"From an item of a manifest to its pixels: {pixels} pixels of the spectrum around H-alpha, a line {depth:.0%} deep, "
        f"took {counted(requests, 'request')} and [bold]{read / 1000:.1f} kB[/bold] of the object store."
    )
    return Found(name, len(found), len(items), asked, pixels, requests, read)


def _read_line(item: Item, store: SandboxStore) -> tuple[int, float, int, int]:
    """Return how many pixels a line has, how deep it is, and how many requests and bytes that took."""
    with item.open(endpoint=store.s3_endpoint, credentials=(store.access_key, store.secret_key)) as fits:
        header = fits[0].header
        middle = round((_H_ALPHA_NM - header["CRVAL1"]) / header["CDELT1"] + header["CRPIX1"]) - 1
        half = round(_WIDTH_NM / header["CDELT1"])
        flux = fits[0].section[middle - half : middle + half + 1]
        depth = 1 - flux[half] / ((flux[0] + flux[-1]) / 2)
        return len(flux), float(depth), fits.stats.requests, fits.stats.bytes
