"""The truth about FITS files: what astropy finds in them when they lie on the local disk."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from astropy.io import fits

from nuncius.sandbox.fits_files import SparseFile

if TYPE_CHECKING:
    from collections.abc import Iterator

File = bytes | SparseFile | Path
BLOCK = 2880


class TrueHdu(NamedTuple):
    """An HDU as a local walk of astropy finds it; sizes in bytes."""

    index: int
    name: str
    version: int
    header_offset: int
    data_offset: int
    data_size: int  # without padding
    end: int  # where the next header starts
    raw: bytes  # the header as it stands in the file, whole blocks
    stored: fits.Header  # what these bytes say: the table of a compressed image
    header: fits.Header  # what fits.open() shows


def open_local(file: File, **options: Any) -> fits.HDUList:
    """Open a file with astropy; gzip'd bytes are unpacked, as astropy does for a file on disk."""
    if isinstance(file, Path):
        return fits.open(file, **options)
    if isinstance(file, SparseFile):
        return fits.open(file.open(), **options)
    return fits.open(io.BytesIO(gzip.decompress(file) if file[:2] == b"\x1f\x8b" else file), **options)


def piece(file: File, start: int, end: int) -> bytes:
    """Return the bytes [start, end) of a file."""
    if isinstance(file, SparseFile):
        return file.read(start, end)
    if isinstance(file, Path):
        with file.open("rb") as stream:
            stream.seek(start)
            return stream.read(end - start)
    return file[start:end]


def true_hdus(file: File) -> list[TrueHdu]:
    """Walk a file with astropy: where the HDUs are, how large they are and what their headers say."""
    # What is odd in a header is told by a warning, each time that a card is looked at.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_local(file, disable_image_compression=True) as stored, open_local(file) as shown:
            return [_true_hdu(file, index, hdu, shown[index]) for index, hdu in enumerate(_each(stored))]


def _each(hdus: fits.HDUList) -> Iterator[Any]:
    # len() reads all headers, and an HDUList that is iterated grows as it goes.
    for index in range(len(hdus)):
        yield hdus[index]


def _true_hdu(file: File, index: int, stored: Any, shown: Any) -> TrueHdu:
    place = stored.fileinfo()
    start, data = place["hdrLoc"], place["datLoc"]
    for header in (stored.header, shown.header):
        repr(header)  # every card is parsed, and complains, now
    return TrueHdu(
        index=index,
        name=shown.name,
        version=shown.ver,
        header_offset=start,
        data_offset=data,
        data_size=stored.size,
        end=data + place["datSpan"],
        raw=piece(file, start, data),
        stored=stored.header.copy(),
        header=shown.header.copy(),
    )
