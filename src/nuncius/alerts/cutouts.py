"""Cutouts: the small images that come with an alert."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius._core.lazy import upward
from nuncius.alerts.packets.compression import gunzip
from nuncius.errors import PacketError

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator

    import numpy as np
    from astropy.io.fits import Header

_GZIP_MAGIC = b"\x1f\x8b"
_END = b"END".ljust(80)
_HEADER_BYTES = 10 * 2880
_PIXELS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_SCALING = frozenset(
    {b"BSCALE  ", b"BZERO   ", b"BLANK   ", b"GROUPS  ", b"PCOUNT  ", b"GCOUNT  ", b"XTENSION"}
)
_DECISIVE = _SCALING | {b"SIMPLE  ", b"BITPIX  ", b"NAXIS   ", b"NAXIS1  ", b"NAXIS2  "}
# What astropy raises on damaged files.
_FITS_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class Cutout:
    """One small image.

    Parameters
    ----------
    kind : {"science", "template", "difference"}
        Which of the three.
    bytes : bytes
        As they came in the packet: FITS, gzipped or plain.
    file_name : str, optional
        The name that the packet gives it.
    """

    kind: str
    bytes: builtins.bytes = field(repr=False)
    file_name: str | None = None

    @property
    def fits(self) -> builtins.bytes:
        """The FITS file, unpacked."""
        # What it is shows in its first bytes; the survey's name proves nothing.
        return gunzip(self.bytes) if self.bytes.startswith(_GZIP_MAGIC) else self.bytes

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The image: a 2-D array, rows first, in the machine's byte order; NaN where there are no data.

        Raises
        ------
        PacketError
            If it is no readable FITS image.
        """
        import numpy as np

        plain = _plain_image(self.fits)
        if plain is not None:
            return plain
        data = self._read(lambda hdu: hdu.data)
        if data is None or data.ndim != 2:
            raise PacketError(f"the {self.kind} cutout holds no 2-D image")
        return np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))

    @property
    def header(self) -> Header:
        """The FITS header of the image."""
        return self._read(lambda hdu: hdu.header.copy())

    def plot(self, *, ax: Any = None) -> Any:
        """Draw the image and return the matplotlib axes."""
        return upward("nuncius.plots").plot_cutout(self, ax=ax)

    def _read(self, look: Callable[[Any], Any]) -> Any:
        from astropy.io import fits
        from astropy.utils.exceptions import AstropyWarning

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AstropyWarning)
                # astropy reads lazily: what is damaged may show only when the image is touched.
                with fits.open(io.BytesIO(self.fits), memmap=False) as hdus:
                    return look(hdus[0])
        except PacketError:
            raise
        except _FITS_FAULTS as error:
            raise PacketError(f"the {self.kind} cutout is no readable FITS file: {error}") from error
        except fits.VerifyError as error:
            raise PacketError(f"the {self.kind} cutout is no valid FITS file: {error}") from error


def _plain_image(fits: bytes) -> np.ndarray[Any, Any] | None:
    """Read the image of a file that holds one and nothing unusual, as cutouts do: astropy takes forty times as long.

    Anything else (scaled, blank or missing values, other axes, extensions, damage) gives None, and astropy reads it.

    Source: FITS Standard 4.0, sections 4.4.1 and 5.
    """
    import numpy as np

    cards: dict[bytes, bytes] = {}
    for begin in range(0, min(len(fits), _HEADER_BYTES) - 79, 80):
        card = fits[begin : begin + 80]
        if card == _END:
            break
        name = card[:8]
        if name in _DECISIVE and (name in cards or card[8:10] != b"= "):
            return None
        cards[name] = card[10:]
    else:
        return None
    try:
        bitpix, naxis, width, height = (
            int(cards[name].partition(b"/")[0])
            for name in (b"BITPIX  ", b"NAXIS   ", b"NAXIS1  ", b"NAXIS2  ")
        )
    except (KeyError, ValueError):
        return None
    kind = _PIXELS.get(bitpix)
    begin = -(-(begin + 80) // 2880) * 2880
    if (
        kind is None
        or naxis != 2
        or min(width, height) < 1
        or cards.get(b"SIMPLE  ", b"").partition(b"/")[0].strip() != b"T"
        or cards.keys() & _SCALING
        or len(fits) - begin < width * height * abs(bitpix) // 8
    ):
        return None
    pixels = np.frombuffer(fits, kind, width * height, begin).reshape(height, width)
    return pixels.astype(pixels.dtype.newbyteorder("="))


@dataclass(frozen=True, slots=True)
class Cutouts:
    """The three images of an alert; any of them may be missing."""

    science: Cutout | None = None
    template: Cutout | None = None
    difference: Cutout | None = None

    def __iter__(self) -> Iterator[Cutout]:
        """Give those that exist, science first."""
        return iter(
            [cutout for cutout in (self.science, self.template, self.difference) if cutout is not None]
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Cutouts: {', '.join(f'{cutout.kind} {len(cutout.bytes)} B' for cutout in self) or 'none'}>"

    def plot(self, *, axes: Any = None) -> Any:
        """Draw the images side by side and return the matplotlib axes."""
        return upward("nuncius.plots").plot_cutouts(self, axes=axes)
