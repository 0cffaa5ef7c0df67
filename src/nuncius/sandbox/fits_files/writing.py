"""How files are put together: astropy's HDUs, or headers and data by hand where astropy would change what was meant."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

__all__ = [
    "BLOCK",
    "CARD",
    "after_primary",
    "card",
    "data_bytes",
    "encoded",
    "gzipped",
    "header_bytes",
    "image_hdu",
    "noise",
    "padded",
    "to_bytes",
]

BLOCK = 2880  # headers and data units fill blocks of this many bytes
CARD = 80


def to_bytes(*hdus: Any) -> bytes:
    """Return the file that astropy writes of these HDUs; an empty primary HDU is put before an extension."""
    from astropy.io import fits

    out = io.BytesIO()
    first = [] if isinstance(hdus[0], (fits.PrimaryHDU, fits.GroupsHDU)) else [fits.PrimaryHDU()]
    fits.HDUList([*first, *hdus]).writeto(out, output_verify="ignore")
    return out.getvalue()


def padded(data: bytes, fill: bytes = b"\0") -> bytes:
    """Return data filled up to whole blocks."""
    return data + fill * (-len(data) % BLOCK)


def card(text: str | bytes) -> bytes:
    """Return one card of a header; a longer text becomes several."""
    raw = text.encode("ascii") if isinstance(text, str) else text
    return raw + b" " * (-len(raw) % CARD)


def header_bytes(cards: Iterable[str | bytes], *, end: bool = True) -> bytes:
    """Return a header of these cards, written as they are, with END and blanks up to a whole block."""
    return padded(b"".join(card(text) for text in [*cards, *(["END"] if end else [])]), b" ")


def encoded(header: Any) -> bytes:
    """Return an astropy Header as it stands in a file."""
    return bytes(header.tostring().encode("ascii"))


def after_primary(extension: bytes) -> bytes:
    """Return an extension after an empty primary HDU."""
    from astropy.io import fits

    return encoded(fits.PrimaryHDU().header) + extension


def data_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """Return the data unit of an array: big-endian, filled up to whole blocks."""
    return padded(array.astype(array.dtype.newbyteorder(">")).tobytes())


def image_hdu(
    array: np.ndarray[Any, Any], cards: Mapping[str, Any] | None = None, *, primary: bool = False
) -> bytes:
    """Return an image whose numbers are stored as they are, whatever BSCALE, BZERO and BLANK say of them."""
    from astropy.io import fits

    kind = fits.PrimaryHDU if primary else fits.ImageHDU
    header = kind(array).header
    header.update(cards or {})
    return encoded(header) + data_bytes(array)


def noise(shape: tuple[int, ...], dtype: str, *, seed: int = 1, high: int = 1000) -> np.ndarray[Any, Any]:
    """Return pixels of a noisy sky: floats around 100 with a spread of 5, or integers in [0, high) that fit the type."""
    import numpy as np

    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(100, 5, shape).astype(kind)
    return rng.integers(0, min(high, int(np.iinfo(kind).max)), shape).astype(kind)


def gzipped(data: bytes) -> bytes:
    """Return data as gzip would keep it, without the time of day."""
    return gzip.compress(data, mtime=0)
