"""What a header says of the data that follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuncius.cloudfits.blocks import padded, parse_structure
from nuncius.compat.astro_cloud.errors import AstroCloudUnsupportedError

if TYPE_CHECKING:
    import numpy as np

    from nuncius.compat.astro_cloud.fits.datatypes import FITSHeader

# FITS 4.0, table 8: only bytes are unsigned. Unsigned wider integers are signed ones with BZERO.
_TYPES = {8: "uint8", 16: "int16", 32: "int32", 64: "int64", -32: "float32", -64: "float64"}


def as_np_dtype(bitpix: int) -> np.dtype[np.generic]:
    """Return the type of the numbers that a BITPIX stands for.

    Parameters
    ----------
    bitpix : int
        8, 16, 32, 64, -32 or -64.

    Returns
    -------
    numpy.dtype
        In the byte order of this machine; in a file they are big-endian: ``as_np_dtype(bitpix).newbyteorder(">")``.

    Raises
    ------
    AstroCloudUnsupportedError
        For any other number; a NotImplementedError too.

    Examples
    --------
    >>> as_np_dtype(-32)
    dtype('float32')
    """
    import numpy as np

    if bitpix not in _TYPES:
        raise AstroCloudUnsupportedError(f"BITPIX is {bitpix!r}; FITS has only {', '.join(map(str, _TYPES))}")
    return np.dtype(_TYPES[bitpix])


def find_next_header_offset(header: FITSHeader) -> int:
    """Return where the next header begins, if there is one: behind this header and its data, with their padding.

    Parameters
    ----------
    header : FITSHeader
        One of those that `load_headers` gives.

    Returns
    -------
    int
        Bytes from the beginning of the file.

    Raises
    ------
    FitsError
        If a keyword that tells the size of the data is missing or impossible.
    """
    place = f"byte {header.offset}"
    raw = header.fits.tostring().encode("ascii")
    structure = parse_structure(raw, where="the file", position=place)
    return header.offset + header.length + padded(structure.data_size)
