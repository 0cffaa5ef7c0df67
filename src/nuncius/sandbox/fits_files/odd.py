"""Files that are broken, hostile or no FITS files at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nuncius.errors import ConfigurationError
from nuncius.sandbox.fits_files.images import stored_image
from nuncius.sandbox.fits_files.many import decam_fz
from nuncius.sandbox.fits_files.sparse import SparseFile
from nuncius.sandbox.fits_files.tables import shared_heap
from nuncius.sandbox.fits_files.writing import BLOCK, CARD, card, gzipped, image_hdu, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "RepeatedCard",
    "end_missing",
    "good_file",
    "million_cards",
    "odd_kinds",
    "truncated",
    "with_card",
    "without_card",
]


@dataclass(frozen=True)
class RepeatedCard:
    """The same card over and over; a part of a `SparseFile`."""

    text: str
    count: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.count * CARD

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end) as they stand in a file."""
        cards = self.text.ljust(CARD).encode("ascii") * (end // CARD - start // CARD + 1)
        return cards[start % CARD : start % CARD + end - start]


def good_file() -> bytes:
    """Return a file of three images with headers of one block and data of two, one and three blocks: 9 in all."""
    extensions = [
        image_hdu(noise((length,), "i2", seed=length), {"EXTNAME": name})
        for length, name in ((1200, "A"), (4000, "B"))
    ]
    return stored_image(8, shape=(60, 70)) + b"".join(extensions)


def truncated(where: str) -> bytes:
    """Return the good file cut short.

    Parameters
    ----------
    where : {"data", "padding", "header", "long header", "first header", "first card"}
        Within the last data, within the padding after them (nothing that matters is lost), within the last header,
        after the first block of a header of two, within the first header, or within the first card.
    """
    good = good_file()
    long = image_hdu(noise((9,), "i2"), {f"KEY{number}": number for number in range(40)})
    return {
        "data": good[:-4000],
        "padding": good[: 6 * BLOCK + 8000],
        "header": good[: 5 * BLOCK + 1000],
        "long header": good[: 5 * BLOCK] + long[:BLOCK],
        "first header": good[:1000],
        "first card": good[:40],
    }[where]


def end_missing(where: str) -> bytes:
    """Return the good file with a blank card for the END of the "middle" header, the "last", or "all" three."""
    good = good_file()
    end = b"END".ljust(CARD)
    places = [at for at in range(0, len(good), CARD) if good[at : at + CARD] == end]
    for at in {"middle": places[1:2], "last": places[2:], "all": places}[where]:
        good = good[:at] + b" " * CARD + good[at + CARD :]
    return good


def with_card(file: bytes, keyword: str, value: object, *, occurrence: int = 0) -> bytes:
    """Return a file with another value in a card; of several with that keyword the one with number `occurrence`.

    Raises
    ------
    ConfigurationError
        If there is no such card.
    """
    start = f"{keyword:8s}= ".encode("ascii")
    places = [at for at in range(0, len(file), CARD) if file.startswith(start, at)]
    if occurrence >= len(places):
        raise ConfigurationError(
            f"the file has {len(places)} cards {keyword}, so none with number {occurrence}"
        )
    at = places[occurrence]
    return file[:at] + f"{keyword:8s}= {value!s:>20s}".ljust(CARD).encode("ascii") + file[at + CARD :]


def without_card(file: bytes, keyword: str, *, occurrence: int = 0) -> bytes:
    """Return a file with a comment in the place of a card."""
    marked = with_card(file, keyword, "gone", occurrence=occurrence)
    return marked.replace(f"{keyword:8s}= {'gone':>20s}".encode("ascii"), b"COMMENT".ljust(30))


def million_cards(count: int = 1_000_000, *, end: bool = True) -> SparseFile:
    """Return a file whose only header has a million cards, of 80 MB; without `end` it never ends."""
    head = b"".join(card(text) for text in ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0"))
    cards = RepeatedCard("HISTORY the same again", count)
    used = len(head) + cards.size
    tail = card("END" if end else "HISTORY") + b" " * (-(used + CARD) % BLOCK)
    return SparseFile(used + len(tail), {0: head, len(head): cards, used: tail})


def odd_kinds() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield a name and a factory for each small file that is broken, hostile or no FITS file.

    The large one is `million_cards`. astropy 8.0 never returns from "NAXIS = 1e+30 in HDU 0" and from "NAXIS1 = -60 in HDU
    0", which send it through the numbers up to 10**30 and backwards in the file.
    """
    for where in ("data", "padding", "header", "long header", "first header", "first card"):
        yield f"truncated {where}", partial(truncated, where)
    for where in ("middle", "last", "all"):
        yield f"END missing, {where}", partial(end_missing, where)
    yield "trailing zeros", lambda: good_file() + bytes(2 * BLOCK)
    yield "trailing junk", lambda: good_file() + b"the end of the tape\n" * 300
    yield "trailing bytes", lambda: good_file() + b"\0\n"
    yield (
        "byte above 127 in a card",
        lambda: good_file().replace(b"EXTNAME = 'A       '", b"EXTNAME = 'A\xe4\xff     '"),
    )
    yield (
        "control bytes in a card",
        lambda: good_file().replace(b"EXTNAME = 'A       '", b"EXTNAME = 'A\t\r\n\0   '"),
    )
    yield (
        "HTML page",
        lambda: b"<!DOCTYPE html>\n<html><body><h1>Service unavailable</h1></body></html>\n" * 50,
    )
    yield "empty", bytes
    yield "one byte", lambda: b"S"
    yield "zeros", lambda: bytes(2 * BLOCK)
    yield "a picture", lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
    yield "an extension first", lambda: good_file()[3 * BLOCK :]
    yield "SIMPLE without a value", lambda: good_file().replace(b"SIMPLE  = ", b"SIMPLE    ", 1)
    yield "gzip", lambda: gzipped(good_file())
    yield "gzip, truncated", lambda: gzipped(good_file())[:-3000]
    yield from _odd_structures()
    yield from _odd_tables()


def _odd_structures() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield files whose first or later headers describe what can't be."""
    first: dict[str, list[object]] = {
        "SIMPLE": ["F"],
        "BITPIX": [7],
        "NAXIS": [-1, 10**30],
        "NAXIS1": [-60, 10**17],
    }
    later: dict[str, list[object]] = {
        "BITPIX": ["'eight'"],
        "NAXIS": [1000],
        "NAXIS1": [-1, 10**17, 10**40, "1E17", "T"],
        "PCOUNT": [-100, 10**18],
        "GCOUNT": [0, -1],
        "XTENSION": ["IMAGE"],
    }
    for where, keywords in enumerate((first, later)):
        for keyword, values in keywords.items():
            # Extensions have cards that the primary header has not.
            occurrence = int(where and keyword not in {"PCOUNT", "GCOUNT", "XTENSION"})
            for value in values:
                yield (
                    f"{keyword} = {_short(value)} in HDU {where}",
                    partial(_changed, good_file, keyword, value, occurrence),
                )
    for keyword in ("BITPIX", "NAXIS", "NAXIS1"):
        yield f"{keyword} missing", partial(_lacking, keyword)


def _odd_tables() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield tables and compressed images that point outside of themselves."""
    descriptors = {
        "negative count": (-1, 0),
        "negative place": (2, -8),
        "beyond the heap": (5, 70),
        "huge": (1 << 30, 0),
    }
    for name, descriptor in descriptors.items():
        yield f"descriptor: {name}", partial(shared_heap, [(2, 0), descriptor, (1, 4)])
    tables: dict[str, list[object]] = {
        "THEAP": [-5, 10**15, 10],
        "NAXIS1": [7],
        "TFIELDS": [5, -1],
        "TFORM2": ["'99999999999J'", "'-3J     '", "'Z       '", "''", "'PJ'"],
    }
    tiles: dict[str, list[object]] = {
        "ZTILE1": [0, 10**12],
        "ZTILE2": [-4],
        "ZNAXIS1": [10**12],
        "ZNAXIS2": [3],
        "ZNAXIS": [0, 1000],
        "ZCMPTYPE": ["'MAGIC_1 '"],
        "ZBITPIX": [7],
    }
    for kind, base, keywords in (("table", shared_heap, tables), ("tiles", partial(decam_fz, 1), tiles)):
        for keyword, values in keywords.items():
            for value in values:
                yield f"{kind} with {keyword} = {_short(value)}", partial(_changed, base, keyword, value)


def _changed(base: Callable[[], bytes], keyword: str, value: object, occurrence: int = 0) -> bytes:
    return with_card(base(), keyword, value, occurrence=occurrence)


def _lacking(keyword: str) -> bytes:
    return without_card(good_file(), keyword, occurrence=1)


def _short(value: object) -> str:
    return f"{value:.0e}" if isinstance(value, int) and value > 10**9 else str(value)
