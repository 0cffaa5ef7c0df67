"""Sections of images: which bytes they are, and what values these bytes mean."""

from __future__ import annotations

import io
import math
import operator
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from nuncius._core.operations import Call
from nuncius.cloudfits import blocks
from nuncius.cloudfits.keywords import unreadable
from nuncius.cloudfits.ranges import MOST_RUNS
from nuncius.errors import FitsError, TruncatedFitsError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nuncius._core.operations import Operation
    from nuncius.cloudfits.hdu import HduDescription
    from nuncius.cloudfits.ranges import Reader

_SCALING = ("BSCALE", "BZERO", "BLANK")
_CURES = {
    "table": "Tables are read by .rows() and .columns()",
    "empty": "The image is probably in HDU 1",
}
_DENSE = 16  # up to which step the pixels in between are read as well
_INLINE = 1 << 20  # bytes: for less, another thread is not worth its while
_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class Axis(NamedTuple):
    """What is taken of one axis: some of its indices, in some order."""

    indices: range | NDArray[np.int64]
    """A slice is a range: it takes no memory, whatever length a header claims."""
    kept: bool
    """False if it was given as one number, so that the result lacks the axis."""

    @property
    def box(self) -> tuple[int, int]:
        """From the lowest index to after the highest."""
        if not len(self.indices):
            return 0, 0
        if isinstance(self.indices, range):
            return min(self.indices[0], self.indices[-1]), max(self.indices[0], self.indices[-1]) + 1
        return int(self.indices.min()), int(self.indices.max()) + 1

    @property
    def whole_run(self) -> bool:
        """Whether it is one index after the other, upwards."""
        if isinstance(self.indices, range):
            return self.indices.step == 1 or (self.indices.step > 0 and len(self.indices) < 2)
        first, after = self.box
        count = len(self.indices)
        return after - first == count and (count < 2 or bool((self.indices[1:] > self.indices[:-1]).all()))

    def take(self, values: NDArray[Any], number: int) -> NDArray[Any]:
        """Take the indices, counted from the lowest, of the axis of that number."""
        import numpy as np

        return np.take(values, np.asarray(self.indices, dtype=np.int64) - self.box[0], axis=number)


def axes_of(key: Any, shape: Sequence[int]) -> list[Axis]:
    """Return what a subscript takes of each axis, as numpy understands it.

    Parameters
    ----------
    key : int, slice, Ellipsis, list, array or tuple of them
        At most one list or array: of indices, or of truth values.
    shape : sequence of int
        Of the image, in numpy's order.

    Raises
    ------
    IndexError
        If it doesn't fit the image.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    ellipses = [at for at, part in enumerate(keys) if part is Ellipsis]
    if len(ellipses) > 1 or len(keys) - len(ellipses) > len(shape):
        raise IndexError(f"{len(keys)} indices for an image of {len(shape)} axes")
    at = ellipses[0] if ellipses else len(keys)
    missing = len(shape) - (len(keys) - len(ellipses))
    keys[at : at + 1] = [slice(None)] * missing
    if sum(not isinstance(part, slice) and not _is_number(part) for part in keys) > 1:
        raise IndexError(
            "at most one axis can be given as a list; take a section that holds all, and index that"
        )
    return [
        _axis(part, length, number) for number, (part, length) in enumerate(zip(keys, shape, strict=True))
    ]


def _axis(key: Any, length: int, number: int) -> Axis:
    import numpy as np

    if isinstance(key, slice):
        return Axis(range(*key.indices(length)), kept=True)
    if _is_number(key):
        index = operator.index(key)
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of bounds for axis {number} of {length}")
        return Axis(range(index % length, index % length + 1), kept=False)
    given = np.asarray(key)
    if given.ndim != 1 or not (
        given.dtype == bool or np.issubdtype(given.dtype, np.integer) or not len(given)
    ):
        raise IndexError(f"axis {number} takes a number, a slice, or a list of numbers or truth values")
    if given.dtype == bool:
        if len(given) != length:
            raise IndexError(f"{len(given)} truth values for axis {number} of {length}")
        return Axis(np.flatnonzero(given).astype(np.int64), kept=True)
    indices = given.astype(np.int64)
    if len(indices) and not (-length <= indices.min() and indices.max() < length):
        raise IndexError(f"an index is out of bounds for axis {number} of {length}")
    return Axis(indices % length if length else indices, kept=True)


def _is_number(key: Any) -> bool:
    return hasattr(key, "__index__") and not isinstance(key, bool) and getattr(key, "ndim", 0) == 0


def read_section(reader: Reader, hdu: HduDescription, key: Any) -> Operation[Any]:
    """Read a section of an image, plain or compressed; see `Section`."""
    if hdu.kind not in {"image", "compressed image"}:
        raise UnsupportedError(
            f"HDU {hdu.index} of {hdu.url} has no image but is: {hdu.kind}. {_CURES.get(hdu.kind, _CURES['table'])}",
            url=hdu.url,
        )
    check_shape(hdu, hdu.shape)
    axes = axes_of(key, hdu.shape)
    shape = tuple(len(axis.indices) for axis in axes)
    if hdu.kind == "compressed image":
        values = yield from _compressed(reader, hdu, axes)
    else:
        values = yield from _plain(reader, hdu, axes)
    result = values.reshape([count for count, axis in zip(shape, axes, strict=True) if axis.kept])
    return result if result.ndim else result[()]


def check_shape(hdu: HduDescription, shape: Sequence[int]) -> None:
    """Raise UnsupportedError if there can be no array of the shape that a header claims."""
    import numpy as np

    try:
        np.empty((0, *shape), dtype=np.uint8)
    except ValueError as error:
        raise UnsupportedError(
            f"HDU {hdu.index} of {hdu.url} claims {len(hdu.shape)} axes of {list(hdu.shape[:9])} pixels, and numpy has no "
            f"such array: {error}",
            url=hdu.url,
        ) from error


def _compressed(reader: Reader, hdu: HduDescription, axes: Sequence[Axis]) -> Operation[NDArray[Any]]:
    import numpy as np

    from nuncius.cloudfits import tiles

    box = [axis.box for axis in axes]
    if any(first == after for first, after in box):
        return np.empty([len(axis.indices) for axis in axes], dtype=hdu.dtype)
    values: NDArray[Any] = yield from tiles.read_tiles(reader, hdu, box)
    for number, axis in enumerate(axes):
        if not axis.whole_run:
            values = axis.take(values, number)
    return values


def _plain(reader: Reader, hdu: HduDescription, axes: Sequence[Axis]) -> Operation[NDArray[Any]]:
    import numpy as np

    shape = [len(axis.indices) for axis in axes]
    if 0 in shape:
        return np.empty(shape, dtype=hdu.dtype)
    last = axes[-1].indices
    if isinstance(last, range) and last.step != 1 and abs(last.step) <= _DENSE and len(last) > 1:
        # Every other pixel, or backwards: a run for each would cost more memory than what is between them.
        between = Axis(range(*axes[-1].box), kept=True)
        dense = yield from _plain(reader, hdu, [*axes[:-1], between])
        return np.ascontiguousarray(dense[..., :: last.step])
    width = abs(hdu.bitpix) // 8
    starts, length = _runs(reader, hdu, axes, width)
    pieces = yield from reader.read(starts, starts + length)
    data = (
        pieces.get(int(starts[0]), int(starts[0]) + length)
        if len(starts) == 1
        else pieces.gather(starts, length)
    )
    if len(data) < _INLINE:
        return decode(hdu, data, shape)
    values: NDArray[Any] = yield Call(decode, (hdu, data, shape))
    return values


def _runs(
    reader: Reader, hdu: HduDescription, axes: Sequence[Axis], width: int
) -> tuple[NDArray[np.int64], int]:
    """Return where the runs of bytes of a section begin, in the order of its values, and how long each is."""
    import numpy as np

    strides = [width]
    for count in hdu.shape[:0:-1]:
        strides.insert(0, strides[0] * count)
    # In Python's numbers, which have no largest: a header may claim anything.
    last = (
        hdu.data_offset
        + sum((axis.box[1] - 1) * stride for axis, stride in zip(axes, strides, strict=True))
        + width
    )
    if last > reader.size:
        raise TruncatedFitsError(
            f"{hdu.url} ends at byte {reader.size:,}, and this section of HDU {hdu.index} goes to byte {last:,}: the "
            "file was cut when it was written or copied, or its header claims too much",
            url=hdu.url,
            position=f"HDU {hdu.index}",
        )
    reader.check_size(math.prod(len(axis.indices) for axis in axes) * width)
    base, length, inner = hdu.data_offset, width, len(axes)
    while inner and axes[inner - 1].whole_run:
        inner -= 1
        first, after = axes[inner].box
        base += first * strides[inner]
        length = (after - first) * strides[inner]
        if after - first != hdu.shape[inner]:
            break
    runs = math.prod(len(axis.indices) for axis in axes[:inner])
    if runs > MOST_RUNS:
        raise UnsupportedError(
            f"this section of HDU {hdu.index} of {hdu.url} lies in {runs:,} separate places; ask for what lies together in "
            "the file: the last axis runs fastest",
            url=hdu.url,
        )
    starts = np.array([base], dtype=np.int64)
    for axis, stride in zip(axes[:inner], strides[:inner], strict=True):
        starts = np.add.outer(starts, np.asarray(axis.indices, dtype=np.int64) * stride)
    return starts.reshape(-1), length


def decode(hdu: HduDescription, data: Any, shape: Sequence[int]) -> NDArray[Any]:
    """Return the values that bytes of an image mean: BSCALE, BZERO and BLANK are applied as astropy applies them.

    Parameters
    ----------
    hdu : HduDescription
        The image.
    data : bytes-like
        As they stand in the file.
    shape : sequence of int
        Of the result.
    """
    import numpy as np
    from astropy.io import fits

    cards = _scaling_cards(hdu)
    if not cards:
        values = np.frombuffer(data, dtype=_TYPES[hdu.bitpix]).reshape(shape)
        return values if values.flags.writeable else values.copy()
    # A small FITS file with the same cards, read by astropy: so the result is what astropy would give.
    count = int(np.prod(shape))
    lines = [
        b"SIMPLE  =                    T",
        b"BITPIX  = %20d" % hdu.bitpix,
        b"NAXIS   =                    1",
        b"NAXIS1  = %20d" % count,
        *cards,
        b"END",
    ]
    head = b"".join(line.ljust(blocks.CARD) for line in lines)
    head = head.ljust(blocks.padded(len(head)))
    file = b"".join((head, data, bytes(-len(data) % blocks.BLOCK)))
    try:
        with fits.open(io.BytesIO(file), memmap=False) as opened:
            scaled: NDArray[Any] = opened[0].data
    except unreadable() as error:
        raise FitsError(
            f"HDU {hdu.index} of {hdu.url or 'this file'} has a BSCALE, BZERO or BLANK that can't be applied: {error}",
            url=hdu.url,
            position=f"HDU {hdu.index}",
        ) from error
    return scaled.reshape(shape)


def dtype_of(hdu: HduDescription) -> np.dtype[Any] | None:
    """Return the type of the values of an image as `decode` gives them; None if it has no data."""
    import numpy as np

    if hdu.kind == "compressed image":
        from nuncius.cloudfits import tiles

        return tiles.tiles_dtype(hdu)
    if not hdu.shape:
        return None
    if not _scaling_cards(hdu):
        return np.dtype(_TYPES[hdu.bitpix])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading the data says it again
        return decode(hdu, bytes(abs(hdu.bitpix) // 8), (1,)).dtype


def _scaling_cards(hdu: HduDescription) -> list[bytes]:
    """Return the cards that change what the bytes of an image mean."""
    names = _SCALING if hdu.bitpix > 0 else _SCALING[:2]  # BLANK is for integers
    if hdu.bitpix == 8 and hdu.get("BZERO", 0) == -128 and hdu.get("BSCALE", 1) == 1:
        names = _SCALING[:2]  # signed bytes stay integers, as unsigned numbers do, and have no NaN
    cards = [(name, blocks.card_of(hdu.raw, name)) for name in names]
    return [name.encode().ljust(8) + b"=" + field for name, field in cards if field is not None]
