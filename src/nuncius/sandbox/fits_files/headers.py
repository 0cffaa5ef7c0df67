"""Headers that are long, odd and legal: what a reader of raw cards stumbles over."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nuncius.sandbox.fits_files.writing import BLOCK, CARD, data_bytes, header_bytes, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["continued_header", "end_traps", "header_kinds", "hierarch_header", "long_header", "odd_values"]

_PER_BLOCK = BLOCK // CARD
_SHAPE = (6, 10)
_PRIMARY = [
    "SIMPLE  =                    T / conforms to FITS standard",
    f"BITPIX  = {16:20d} / array data type",
    f"NAXIS   = {2:20d} / number of array dimensions",
    f"NAXIS1  = {_SHAPE[1]:20d}",
    f"NAXIS2  = {_SHAPE[0]:20d}",
    "EXTEND  =                    T",
]
_EXTENSION = [
    "XTENSION= 'IMAGE   '           / Image extension",
    *_PRIMARY[1:5],
    f"PCOUNT  = {0:20d}",
    f"GCOUNT  = {1:20d}",
]


def _between(cards: Sequence[str | bytes]) -> bytes:
    """Return a file whose primary and second extension have these cards, and an extension without them between."""
    data = data_bytes(noise(_SHAPE, "i2"))
    plain = header_bytes([*_EXTENSION, "EXTNAME = 'PLAIN   '"])
    odd = header_bytes([*_EXTENSION, "EXTNAME = 'ODD     '", *cards])
    return header_bytes([*_PRIMARY, *cards]) + data + plain + data + odd + data


def long_header(cards: int = 2556) -> bytes:
    """Return a file whose first and third header have so many cards, END not counted."""
    own = len(_PRIMARY)
    return _between(
        [f"KEY{number:05d}= {number / 7:20.15f} / value {number}" for number in range(cards - own)]
    )


def continued_header() -> bytes:
    """Return a file with texts over many cards, whose parts look like keywords, quotes and ends."""
    from astropy.io import fits

    return _between(
        [
            "LONGSTRN= 'OGIP 1.0'",
            "LONGTEXT= 'a text that goes on and on until it has to be continued on the n&'",
            "CONTINUE  'ext card, with NAXIS1  = 999 in it, and XTENSION= ''IMAGE'' too &'",
            "CONTINUE  'END' / and a comment at the last part",
            "EMPTY   = '&'",
            "CONTINUE  '' / all of it is a comment",
            "AMPERSND= 'not continued&'",
            "BITPIXEL= 'BITPIX  =                    8'",
            "QUOTES  = 'it''s a quote''&'",
            "CONTINUE  '''s other half'",
            str(fits.Card("STORY", "It was a dark and stormy night. " * 40, "the sky was never seen")),
        ]
    )


def hierarch_header() -> bytes:
    """Return a file with keywords of ESO's HIERARCH convention, some longer than a card's value leaves room for."""
    return _between(
        [
            "HIERARCH ESO TEL AIRM START = 1.234 / airmass at start",
            "HIERARCH ESO DET CHIP1 ID = 'CCD-44  ' / a text",
            "HIERARCH ESO INS FILT1 NAME = 'a quote '' in it'",
            "HIERARCH ESO OCS NAXIS1 = 5 / not an axis",
            "HIERARCH lower case key=T",
            f"HIERARCH {'VERY LONG ' * 5}KEY = 1.5E-7",
            "HIERARCH ESO NO VALUE",
        ]
    )


def end_traps() -> bytes:
    """Return a file whose headers hold END and 77 blanks off a card's start, and words that begin with END."""
    blank = b" " * CARD
    return _between(
        [
            "COMMENT " + " " * 69 + "END",  # and then a blank card
            blank,
            "COMMENT END",
            blank,
            "TEXT    = 'END     '",
            "ENDTIME = 59000.5 / END",
            "END_DATE= '2020-06-01'",
            "ENDING    is a commentary keyword",
            "HISTORY END" + " " * 30,
            blank,
            blank,
            "COMMENT XTENSION= 'BINTABLE'",
            "COMMENT NAXIS1  =                  999",
            "        NAXIS2  =                  999",
        ]
    )


def odd_values() -> bytes:
    """Return a file with values in each notation: free format, none at all, D exponents, complex, quotes, repeated."""
    return _between(
        [
            "FREE    =12",
            "FREE2   =            -7/no room",
            "PLUS    = +0012",
            "NOVALUE =",
            "NOVALUE2=                      / only a comment",
            "NOEQUAL   5",
            "DOUBLE  = 1.5D+03",
            "SMALL   = 1.5d-3",
            "COMPLEX = (1.5, -2.5)",
            "EMPTYTXT= ''",
            "BLANKS  = '        '",
            "QUOTED  = 'it''s'",
            "SLASH   = 'a / b' / c",
            "HUGE    = 123456789012345678901234567890",
            "TRUTH   =                    F",
            "TWICE   = 1",
            "TWICE   = 2",
            "DATE-OBS= '2026-11-21T00:00:00'",
            "DP1     = 'AXIS.1: 2'",
            "DP1     = 'NAXES: 2'",
            "COMMENT one",
            "COMMENT two",
            "HISTORY",
            "KEY_-09 = 'odd but legal'",
            "INHERIT =                    T",
        ]
    )


def free_format() -> bytes:
    """Return a file whose sizes stand anywhere in their cards, as old programs wrote them."""
    cards = [
        "SIMPLE  = T",
        "BITPIX  = 16",
        "NAXIS   =   2 / axes",
        f"NAXIS1  = {_SHAPE[1]:+04d}/x",
        f"NAXIS2  = {_SHAPE[0]:40d}",
    ]
    data = data_bytes(noise(_SHAPE, "i2"))
    return header_bytes(cards) + data + header_bytes(_EXTENSION) + data


def full_blocks(cards: int) -> bytes:
    """Return a file whose first header has so many cards before END: 35 fill a block with it, 36 leave END alone."""
    return _between([f"KEY{number:05d}= {number:20d}" for number in range(cards - len(_PRIMARY))])


def room_for_more(blocks: int = 3) -> bytes:
    """Return a file whose headers hold blocks of blank cards before END."""
    return _between(
        [
            "KEY     =                    1",
            *[b" " * CARD] * (blocks * _PER_BLOCK),
            "LAST    =                    2",
        ]
    )


def header_kinds() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield a name and a factory of a small file for each kind of header."""
    yield "header of 2,556 cards", long_header
    yield "header of 108 cards", partial(long_header, 108)
    yield "header with CONTINUE", continued_header
    yield "header with HIERARCH", hierarch_header
    yield "header with END in texts", end_traps
    yield "header with odd values", odd_values
    for cards in (34, 35, 36, 37, 71, 72):
        yield f"header of {cards} cards before END", partial(full_blocks, cards)
    yield "header in free format", free_format
    yield "header with blank blocks", room_for_more
