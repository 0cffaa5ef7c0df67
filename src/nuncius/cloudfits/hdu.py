"""One HDU, and one file, as their headers describe them. These are values: they pickle, and they read nothing."""

from __future__ import annotations

import io
import itertools
import operator
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

from nuncius._core.terminal import printable
from nuncius.cloudfits import blocks, images
from nuncius.cloudfits.keywords import OF_TABLES, unreadable
from nuncius.errors import FitsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    import numpy as np
    from astropy.io.fits import Header

    from nuncius.cloudfits.blocks import Structure

_KINDS = {"": "image", "IMAGE": "image", "BINTABLE": "table", "A3DTABLE": "table", "TABLE": "ascii table"}
_STANDARD_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_COMMENTARY = frozenset({"", "COMMENT", "HISTORY", "CONTINUE", "END"})


class HduDescription:
    """One HDU as its header describes it.

    Parameters
    ----------
    index : int
        Its number in the file; 0 is the primary HDU.
    raw : bytes
        Its header, with its padding.
    structure : Structure
        What the mandatory keywords say.
    header_offset : int
        Where its header begins in the file, in bytes.
    truncated : bool
        Whether the file ends before the data does.
    url : str
        Where the file is, for messages.
    """

    def __init__(
        self,
        index: int,
        raw: bytes,
        structure: Structure,
        *,
        header_offset: int,
        truncated: bool = False,
        url: str = "",
    ) -> None:
        self.index = index
        self.raw = raw
        self.structure = structure
        self.header_offset = header_offset
        self.truncated = truncated
        self.url = url

    # Where -----------------------------------------------------------------------------------------------------------

    @property
    def data_offset(self) -> int:
        """Where its data begins in the file, in bytes."""
        return self.header_offset + len(self.raw)

    @property
    def data_size(self) -> int:
        """How many bytes of data it has, without their padding."""
        return self.structure.data_size

    @property
    def end(self) -> int:
        """Where the next HDU would begin, in bytes."""
        return self.data_offset + blocks.padded(self.data_size)

    # What ------------------------------------------------------------------------------------------------------------

    @cached_property
    def name(self) -> str:
        """EXTNAME in upper case, as astropy shows it; ``PRIMARY`` for a primary HDU without one.

        Control characters, which FITS forbids and terminals obey, are question marks.
        """
        name = self.get("EXTNAME", "")
        if name == "COMPRESSED_IMAGE" and self.kind == "compressed image":
            name = self.header.get("EXTNAME", "")  # of the table, and not of the image
        shown = printable(str("" if name is None else name).strip().upper())
        return shown or ("PRIMARY" if self.index == 0 else "")

    @cached_property
    def version(self) -> int:
        """EXTVER; 1 if it isn't there."""
        version = self.get("EXTVER", 1)
        return version if isinstance(version, int) and not isinstance(version, bool) else 1

    @property
    def xtension(self) -> str:
        """XTENSION as it stands; ``""`` for a primary HDU."""
        return self.structure.xtension

    @cached_property
    def kind(self) -> str:
        """``image``, ``compressed image``, ``table``, ``ascii table``, ``random groups``, or ``empty``.

        The XTENSION of other HDUs, in lower case.
        """
        if self.structure.groups:
            return "random groups"
        kind = _KINDS.get(self.xtension, printable(self.xtension.lower()))
        if kind == "table" and blocks.value_of(self.raw, "ZIMAGE") is True:
            return "compressed image"
        return "empty" if kind == "image" and not self.structure.naxis else kind

    @property
    def bitpix(self) -> int:
        """BITPIX; of a compressed image, that of the image."""
        return self._integer("ZBITPIX") if self.kind == "compressed image" else self.structure.bitpix

    @cached_property
    def naxis(self) -> tuple[int, ...]:
        """NAXIS1, NAXIS2, … as FITS orders them; of a compressed image, those of the image.

        Raises
        ------
        FitsError
            If the keywords of a compressed image can't be used.
        """
        if self.kind != "compressed image":
            return self.structure.naxis
        axes = self._integer("ZNAXIS")
        if not 1 <= axes <= blocks.MOST_AXES:
            raise self._damaged(f"ZNAXIS is {axes}")
        lengths = tuple(self._integer(f"ZNAXIS{number}") for number in range(1, axes + 1))
        if min(lengths) < 0:
            raise self._damaged(f"its axes are {list(lengths)[:9]}")
        return lengths

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as numpy orders it: of an image its axes, of a table ``(rows,)``, of groups ``(groups, …)``."""
        if self.kind in {"table", "ascii table"}:
            return self.naxis[1:2]
        if self.kind == "random groups":
            return (self.structure.gcount, *self.naxis[:0:-1])
        return self.naxis[::-1]

    @cached_property
    def dtype(self) -> np.dtype[Any] | None:
        """The type of its values as they are read: scaled and unsigned ones as astropy gives them; None without data.

        Raises
        ------
        FitsError
            If the columns of a table can't be understood.
        """
        if self.kind in {"image", "compressed image"}:
            return images.dtype_of(self)
        if self.kind in {"table", "ascii table"}:
            from nuncius.cloudfits import tables

            return tables.table_dtype(self)
        return None

    @property
    def colnames(self) -> list[str]:
        """The names of the columns of a table, from its header alone; none of other HDUs.

        Raises
        ------
        FitsError
            If the columns can't be understood.
        """
        if self.kind not in {"table", "ascii table"}:
            return []
        from nuncius.cloudfits import tables

        return [column.name for column in tables.table_columns(self)]

    # Its header ------------------------------------------------------------------------------------------------------

    @cached_property
    def header(self) -> Header:
        """The header, as `astropy.io.fits.open` shows it; made when it is first touched.

        Of a compressed image it is the header of the image; `raw` has that of the table.

        Raises
        ------
        FitsError
            If a compressed image is described in an impossible way.
        """
        from astropy.io import fits

        if self.kind != "compressed image":
            # Of other bytes than ASCII astropy's text has question marks.
            return fits.Header.fromstring(self.raw.decode("ascii", "replace").replace("\ufffd", "?"))
        primary = fits.PrimaryHDU().header.tostring().encode()
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "File may have been truncated"
            )  # there is no data, and none is needed
            try:
                with fits.open(io.BytesIO(primary + self.raw), memmap=False, lazy_load_hdus=False) as opened:
                    return opened[1].header
            except unreadable() as error:
                raise self._damaged(f"its header is no header of an image ({error})") from error

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a keyword; found without parsing the other cards, where that can be done.

        Parameters
        ----------
        key : str
            The keyword, in any case.
        default : object
            Returned if there is no such keyword.

        Raises
        ------
        FitsError
            If its card can't be read.
        """
        name = key.upper().strip()
        quick = len(name) <= 8 and name not in _COMMENTARY and _STANDARD_NAME.issuperset(name)
        if quick and (self.kind != "compressed image" or name == "EXTNAME" or not OF_TABLES.fullmatch(name)):
            field = blocks.card_of(self.raw, name)
            if field is None and not self._is_odd(name):
                return default
            value = None if field is None else blocks.read_value(field)
            if value is not None and not (isinstance(value, str) and value.endswith("&")):
                return value
        try:
            return self.header.get(key, default)
        except unreadable() as error:
            raise self._damaged(f"the value of {key} can't be read") from error

    def _is_odd(self, name: str) -> bool:
        # After HIERARCH, in lower case, or without a value.
        return name.encode() in self.raw.upper()

    def _integer(self, name: str) -> int:
        value = blocks.value_of(self.raw, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._damaged(f"{name} is missing or no integer")
        return value

    def _damaged(self, reason: str) -> FitsError:
        return FitsError(
            f"HDU {self.index} of {self.url or 'this file'} can't be used: {reason}",
            url=self.url,
            position=f"HDU {self.index}",
        )

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        size = f", {self.data_size:,} bytes" + (", truncated" if self.truncated else "")
        return f"<{type(self).__name__} {self.index}{name}: {self.kind} {_shape_text(self)}{size}>"


@dataclass(frozen=True, slots=True)
class FileDescription:
    """A FITS file as its headers describe it: a sequence of HDUs.

    Parameters
    ----------
    url : str
        Where it is, without a query string or a secret.
    size : int
        In bytes.
    etag : str, optional
        What the store calls this version of it.
    modified : datetime, optional
        When it was last modified.
    hdus : tuple of HduDescription
        All, or those that were asked for.
    trailing_bytes : int
        What follows the last HDU and is none.
    complete : bool
        False if there may be further HDUs, which were not asked for.
    """

    url: str
    size: int
    etag: str | None
    modified: datetime | None
    hdus: tuple[HduDescription, ...]
    trailing_bytes: int = 0
    complete: bool = True

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its data does."""
        return any(hdu.truncated for hdu in self.hdus)

    def __len__(self) -> int:
        return len(self.hdus)

    def __iter__(self) -> Iterator[HduDescription]:
        return iter(self.hdus)

    def __getitem__(self, key: int | str | tuple[str, int]) -> HduDescription:
        return self.hdus[find_hdu(self, key)]


def find_hdu(file: FileDescription, key: int | str | tuple[str, int]) -> int:
    """Return the index of an HDU, given as its index, its name, or (name, version), in any case.

    Raises
    ------
    IndexError, KeyError
        If there is none; the message lists those that are there.
    TypeError
        If it is something else, such as a slice.
    """
    more = "" if file.complete else " of those that were read (more may follow: open it without hdus=)"
    if isinstance(key, SupportsIndex):  # also a number of numpy
        key = operator.index(key)
        if not -len(file.hdus) <= key < len(file.hdus):
            raise IndexError(f"there is no HDU {key} in {file.url}: it has {len(file.hdus)}{more}")
        return range(len(file.hdus))[key]
    name, version = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
    if not isinstance(name, str):
        raise TypeError(f"an HDU is named by its number, its name, or (name, version), not by {key!r}")
    wanted = name.strip().upper()
    for hdu in file.hdus:
        if (hdu.name == wanted or (wanted == "PRIMARY" and hdu.index == 0)) and version in (
            None,
            hdu.version,
        ):
            return hdu.index
    raise KeyError(f"there is no HDU {key!r} in {file.url}; it has {names_of(file)}{more}")


def names_of(hdus: Iterable[HduDescription]) -> str:
    """Return the names of HDUs for a message: with their versions, and numbers where there is no name."""
    return ", ".join(_name_text(hdu) or str(hdu.index) for hdu in itertools.islice(hdus, 40))


def _name_text(hdu: HduDescription) -> str:
    return hdu.name if hdu.version == 1 else f"{hdu.name},{hdu.version}"


def info_rows(file: FileDescription) -> list[dict[str, Any]]:
    """Return what `RemoteFits.info` shows: a row for each HDU."""
    return [
        {
            "HDU": hdu.index,
            "name": _name_text(hdu) or None,
            "kind": hdu.kind,
            "shape": _shape_text(hdu),
            "header at": hdu.header_offset,
            "data at": hdu.data_offset,
            "data bytes": hdu.data_size,
            "note": "truncated" if hdu.truncated else None,
        }
        for hdu in file.hdus
    ]


def _shape_text(hdu: HduDescription) -> str:
    if hdu.kind in {"table", "ascii table"}:
        columns = blocks.value_of(hdu.raw, "TFIELDS")
        return f"{hdu.shape[0] if hdu.shape else 0:,} rows x {columns} columns"
    try:
        return " x ".join(map(str, hdu.shape)) or "-"
    except FitsError:  # the other HDUs are shown all the same
        return "?"
