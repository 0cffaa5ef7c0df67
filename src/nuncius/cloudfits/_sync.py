"""Generated from _async.py by tools/make_sync.py: do not edit."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Self

from nuncius._core.runners import Runner
from nuncius._core.terminal import plain_text
from nuncius.cloudfits import cutouts, images, tables, whole
from nuncius.cloudfits.hdu import HduDescription, find_hdu, info_rows
from nuncius.cloudfits.headers import describe_file
from nuncius.cloudfits.ranges import Reader, Stats
from nuncius.cloudfits.sparse import SparseFile
from nuncius.errors import ConfigurationError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from types import TracebackType

    from astropy.io.fits import HDUList
    from astropy.nddata import Cutout2D
    from astropy.table import Table
    from astropy.wcs import WCS

    from nuncius._core.operations import Source
    from nuncius.cloudfits.hdu import FileDescription
    from nuncius.cloudfits.headers import Walking


class Section:
    """The pixels of an image, read when it is indexed: ``hdu.section[10:20, 30:40]``.

    It is indexed as a numpy array is: by numbers, slices with steps, ``...`` and at most one list. Only the bytes of the
    section are read, or the compressed tiles that it touches. BSCALE, BZERO and BLANK are applied as astropy applies
    them; values that need no scaling have the byte order of the file.
    """

    def __init__(self, hdu: RemoteHdu) -> None:
        self._hdu = hdu

    def __getitem__(self, key: Any) -> Any:
        hdu = self._hdu
        return Runner().run(images.read_section(hdu.reader, hdu, key))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the image."""
        return self._hdu.shape

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self._hdu.shape)

    @property
    def dtype(self) -> Any:
        """The type of its values as they are read."""
        return self._hdu.dtype

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of shape {self.shape} of HDU {self._hdu.index} of {self._hdu.url}>"


class RemoteHdu(HduDescription):
    """One HDU of a remote file: what its header says is there, its data is read when it is asked for."""

    reader: Reader

    @classmethod
    def of(cls, description: HduDescription, reader: Reader) -> Self:
        """Make one."""
        hdu = cls.__new__(cls)
        hdu.__dict__.update(description.__dict__)
        hdu.reader = reader
        return hdu

    @property
    def section(self) -> Section:
        """The pixels of an image, to be indexed."""
        return Section(self)

    @property
    def data(self) -> Any:
        """All data: an array of an image, an astropy `Table` of a table, None if there is none.

        Of other HDUs, such as random groups, it is what astropy gives. Of a large one this is a long read. It is read each
        time, and not kept.

        Raises
        ------
        UnsupportedError
            If it is more than 4 GiB.
        """
        if self.kind in {"table", "ascii table"}:
            return self.rows()
        if self.kind in {"image", "compressed image"}:
            return self.section[...]
        if not self.data_size:
            return None
        return Runner().run(whole.read_hdu(self.reader, self))

    def cutout(
        self,
        position: Any,
        size: Any,
        *,
        wcs: WCS | None = None,
        mode: str = "trim",
        fill_value: Any = None,
    ) -> Cutout2D:
        """Read a cutout of an image.

        Parameters
        ----------
        position : SkyCoord or (float, float)
            Its middle: a position on the sky, or (x, y) in pixels counted from 0.
        size : int, Quantity or pair of them
            Its size in pixels or in angles; a pair is (ny, nx).
        wcs : WCS, optional
            Of the image; made from the header by default.
        mode : {"trim", "partial", "strict"}
            What is done at the edges of the image, as in `astropy.nddata.Cutout2D`.
        fill_value : number, optional
            For pixels outside of the image in mode ``"partial"``; NaN by default.

        Returns
        -------
        astropy.nddata.Cutout2D
            With `data` and `wcs`. Of an image of more axes, `data` has the further ones before the last two.

        Raises
        ------
        NotFoundError
            If the position is not on the image.
        UnsupportedError
            If the HDU is no image, or its WCS has tables in other HDUs.
        """
        operation = cutouts.read_cutout(
            self.reader, self, position, size, wcs=wcs, mode=mode, fill_value=fill_value
        )
        return Runner().run(operation)

    def rows(self, start: int | None = None, stop: int | None = None) -> Table:
        """Read rows of a table.

        Parameters
        ----------
        start, stop : int, optional
            From which row to before which, counted from 0; negative ones count from the end. All by default.

        Returns
        -------
        astropy.table.Table
            With the units of the columns; TNULL values are masked.
        """
        first, last, _ = slice(start, stop).indices(self.shape[0] if self.shape else 0)
        return Runner().run(tables.read_rows(self.reader, self, first, max(first, last)))

    def columns(self, names: Sequence[str], *, rows: Any = None) -> Table:
        """Read some columns of a table.

        Parameters
        ----------
        names : sequence of str
            The columns, in any case.
        rows : slice, sequence of int, or sequence of bool, optional
            The rows: from one to before another, these, or those that are true; all by default.

        Returns
        -------
        astropy.table.Table
            With these columns in this order.

        Raises
        ------
        NotFoundError
            If there is no such column.
        """
        operation = tables.read_columns(self.reader, self, names, rows)
        return Runner().run(operation)


class RemoteFits:
    """A remote FITS file: a sequence of HDUs, which are also found by name.

    ``fits[1]``, ``fits["SCI"]`` and ``fits["SCI", 2]`` are HDUs. Made by `open_fits`.
    """

    def __init__(self, source: Source, walking: Walking) -> None:
        self._source = source
        self._walking = walking
        self._file: FileDescription | None = None
        self._reader: Reader | None = None
        self._hdus: list[RemoteHdu] = []
        self.stats = Stats()
        """What reading has cost so far."""

    def open(self) -> Self:
        """Read the headers; done by `open_fits` where it is awaited."""
        if self._file is not None:
            return self
        walking = self._walking
        file, head = Runner().run(describe_file(self._source, walking, self.stats))
        self._reader = Reader(
            self._source,
            size=file.size,
            etag=file.etag,
            head=head,
            stats=self.stats,
            concurrency=walking.max_concurrency,
        )
        self._hdus = [RemoteHdu.of(hdu, self._reader) for hdu in file.hdus]
        self._file = file
        return self

    # The file --------------------------------------------------------------------------------------------------------

    @property
    def description(self) -> FileDescription:
        """The file as its headers describe it: a value that can be pickled and kept.

        Raises
        ------
        ConfigurationError
            If the headers were not read yet.
        """
        if self._file is None:
            raise ConfigurationError(
                f"{self._source.url} is not open yet: write `fits = open_fits(…)` or `with open_fits(…)`",
                url=self._source.url,
            )
        return self._file

    @property
    def url(self) -> str:
        """Where it is, without a query string or a secret."""
        return self._source.url

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.description.size

    @property
    def etag(self) -> str | None:
        """What the store calls this version of it; every later read names it."""
        return self.description.etag

    @property
    def modified(self) -> datetime | None:
        """When it was last modified."""
        return self.description.modified

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its data does."""
        return self.description.truncated

    @property
    def trailing_bytes(self) -> int:
        """How many bytes follow the last HDU and are none."""
        return self.description.trailing_bytes

    def hdulist(self, *, data: int | str | Sequence[int | str | tuple[str, int]] = ()) -> HDUList:
        """Return a real astropy HDUList.

        Its headers are there. The data of an HDU is read when it is touched; in async code, where touching can't wait,
        only that of the HDUs which are named is there.

        Parameters
        ----------
        data : int, str, or sequence of int, str or (str, int), optional
            HDUs whose data is read now, side by side.

        Raises
        ------
        UnsupportedError
            When data is touched that can't be read then.
        """
        from astropy.io import fits

        file, reader = self.description, self._reader
        assert reader is not None
        keys = [data] if isinstance(data, (str, int)) else data
        chosen = [file.hdus[find_hdu(file, key)] for key in keys]
        starts = [hdu.data_offset for hdu in chosen]
        ends = [min(hdu.end, file.size) for hdu in chosen]
        pieces = Runner().run(reader.read(starts, ends, gap=0))
        known = [(start, pieces.get(start, end)) for start, end in zip(starts, ends, strict=True)]
        blocking = Runner().blocking
        fetch = None if blocking is None else (lambda start, end: blocking(reader.read_one(start, end)))
        return fits.open(SparseFile(file, known, fetch), memmap=False)

    def close(self) -> None:
        """Forget what was read; connections are shared, and stay."""
        self._hdus = []

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # A sequence and a mapping of HDUs --------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of the HDUs."""
        return [hdu.name for hdu in self.description.hdus]

    def __len__(self) -> int:
        return len(self.description.hdus)

    def __iter__(self) -> Iterator[RemoteHdu]:
        return iter(self._opened())

    def __getitem__(self, key: int | str | tuple[str, int]) -> RemoteHdu:
        return self._opened()[find_hdu(self.description, key)]

    def __contains__(self, key: object) -> bool:
        try:
            find_hdu(self.description, key)  # type: ignore[arg-type]
        except (LookupError, TypeError):
            return False
        return True

    def _opened(self) -> list[RemoteHdu]:
        if len(self._hdus) != len(self.description.hdus):
            raise UnsupportedError(f"{self.url} is closed; open it again", url=self.url)
        return self._hdus

    # How it shows itself ---------------------------------------------------------------------------------------------

    def info(self) -> None:
        """Print a line for each HDU: its name, kind and shape, and where it is."""
        from rich.console import Console
        from rich.table import Table as Lines
        from rich.text import Text

        rows = info_rows(self.description)
        lines = Lines(
            title=Text(self._title()), title_justify="left", box=None, header_style="bold", pad_edge=False
        )
        names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        for name in names:
            numeric = all(isinstance(row[name], int) for row in rows)
            lines.add_column(name, justify="right" if numeric else "left", no_wrap=True)
        for row in rows:
            lines.add_row(*(plain_text(_cell(row[name])) for name in names))
        console = Console()
        if not console.is_terminal:
            console = Console(width=200)  # a file or a pipe has no width
        console.print(lines)

    def _title(self) -> str:
        notes = ", truncated" if self.truncated else ""
        if self.trailing_bytes:
            notes += f", {self.trailing_bytes:,} bytes after the last HDU"
        return f"{self.url}: {len(self)} HDU{'' if len(self) == 1 else 's'}, {self.size:,} bytes{notes}"

    def __repr__(self) -> str:
        title = f"{self.url}, not open yet" if self._file is None else self._title()
        return f"<RemoteFits {title}>"

    def _repr_html_(self) -> str:
        if self._file is None:
            return html.escape(repr(self))
        rows = info_rows(self._file)
        names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(row[name]))}</td>" for name in names) + "</tr>"
            for row in rows
        )
        return (
            f"<p><b>{html.escape(self._title())}</b><br><small>{html.escape(str(self.stats))}</small></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
