"""``nuncius fits table``: rows and columns of a remote table, on the terminal or as a file."""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from nuncius._core.terminal import printable
from nuncius.cli.fits_address import (
    AS_JSON,
    HDU,
    OVERWRITE,
    URL,
    WHOLE_FILE,
    access_options,
    address_of,
    cost_of,
    counted,
    hdu_of,
    name_of,
    open_address,
    print_json,
)
from nuncius.cli.fits_files import check_free, origin_cards, output_option, written_whole
from nuncius.errors import ConfigurationError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    from astropy.table import Column, Table

    from nuncius.cli.fits_address import Access, Address
    from nuncius.cloudfits import RemoteFits, RemoteHdu

_TABLES = frozenset({"table", "ascii table"})
_FITS = (".fits", ".fit", ".fts")
_SHOWN = 20


@click.command()
@URL
@click.option(
    "--rows", metavar="A:B", help="From row A to before row B, counted from 0; -10: are the last ten."
)
@click.option("--columns", metavar="A,B", help="The columns, by name.")
@output_option(*_FITS, ".parquet", ".csv", ".ecsv")
@OVERWRITE
@HDU
@WHOLE_FILE
@AS_JSON
@access_options
def table(
    url: str,
    rows: str | None,
    columns: str | None,
    out: Path | None,
    overwrite: bool,
    hdu: str | None,
    whole_file: bool,
    as_json: bool,
    access: Access,
) -> None:
    """Show rows of a table, or write them into a file.

    Without an HDU it is the first table. Without --rows the first 20 are shown, and all are written.

    \b
    Examples:
      nuncius fits table s3://BUCKET/catalogue.fits --rows 1000:1010
      nuncius fits table 'cube.fits[2]' --columns START_TJD,DQUALITY -o frames.parquet
    """
    from astropy.units import UnitsWarning

    # Units that astropy doesn't know stay as they are written.
    warnings.simplefilter("ignore", UnitsWarning)
    part = _row_range(rows)
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    if out is not None:
        check_free(out, overwrite=overwrite)
    fits, source = _find_table(address_of(url, hdu), access, whole_file=whole_file)
    total = source.shape[0]
    if part is None and out is None:
        part = slice(0, _SHOWN)
    first, last, _ = (part or slice(None)).indices(total)
    found = source.columns(names, rows=slice(first, last)) if names else source.rows(first, last)
    _join_letters(found)
    if out is not None:
        with written_whole(out) as path:
            _write(path, out.suffix.lower(), found, fits, source)
        click.echo(f"wrote {out}: {counted(len(found), 'row')} of {name_of(source)}", err=True)
    elif as_json:
        for row in _json_rows(found):
            print_json(row)
    else:
        _show(found)
    if rows is None and len(found) < total:
        click.echo(f"rows 0:{len(found)} of {total:,}; --rows A:B shows others, -o FILE writes all", err=True)
    click.echo(cost_of(fits), err=True)


def _row_range(text: str | None) -> slice | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*", text)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no range of rows; write 0:100, 1000: or -10:", param_hint="--rows"
        )
    return slice(*(None if end is None else int(end) for end in found.groups()))


def _find_table(address: Address, access: Access, *, whole_file: bool) -> tuple[RemoteFits, RemoteHdu]:
    fits = open_address(address, access, whole_file=whole_file)
    if address.hdu is not None:
        return fits, hdu_of(fits, address.hdu)
    for found in fits:
        if found.kind in _TABLES:
            return fits, found
    raise NotFoundError(f"{fits.url} has no table; nuncius fits ls shows what it has", url=fits.url)


def _join_letters(table: Table) -> None:
    """Make texts of the columns whose texts have any length: astropy gives each as an array of letters."""
    for name in table.colnames:
        column = table[name]
        if getattr(getattr(column, "dtype", None), "kind", "") != "O":
            continue
        if len(column) and all(getattr(getattr(cell, "dtype", None), "kind", "") == "U" for cell in column):
            texts = ["".join(cell.ravel().tolist()) for cell in column]
            table[name] = type(column)(texts, name=name, unit=column.unit, description=column.description)


# On the terminal -------------------------------------------------------------------------------------------------------


def _show(table: Table) -> None:
    """Print a table as wide as the terminal, columns in the middle left out; in a pipe nothing is."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else -1
    for line in table.pformat(max_lines=-1, max_width=width):
        click.echo(printable(line).rstrip())


def _json_rows(table: Table) -> Iterator[dict[str, Any]]:
    plain = _plain(table)
    values = [_values(plain[name]) for name in plain.colnames]
    for row in zip(*values, strict=True):
        yield dict(zip(plain.colnames, row, strict=True))


def _plain(table: Table) -> Table:
    """Return a table without columns that are objects of astropy: the columns that they are made of stand in their place."""
    from astropy.table.serialize import represent_mixins_as_columns

    return represent_mixins_as_columns(table, exclude_classes=_classes_of_columns())


def _classes_of_columns() -> tuple[type, ...]:
    from astropy.table import Column, MaskedColumn

    return Column, MaskedColumn


def _values(column: Column) -> list[Any]:
    """Return the values of a column as Python has them; None where one is missing."""
    return [_value(value) for value in column.tolist()]


def _value(value: Any) -> Any:
    """Return a value as JSON can have it: bytes as text, arrays as lists."""
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_value(item) for item in value]
    return str(value) if isinstance(value, complex) else value


# Into a file -----------------------------------------------------------------------------------------------------------


def _write(path: Path, ending: str, table: Table, fits: RemoteFits, source: RemoteHdu) -> None:
    from astropy.io.fits import VerifyError

    if ending == ".parquet":
        from nuncius._core.lazy import require

        require("pyarrow.parquet", extra="parquet").write_table(_to_arrow(table), path)
        return
    if ending == ".csv":
        _check_flat(table)
    table = table.copy(copy_data=False)
    for name in table.colnames:
        if ending not in _FITS and getattr(getattr(table[name], "dtype", None), "kind", "") == "S":
            table[name] = _as_text(table[name])
    if ending in _FITS:
        for keyword, value, _ in origin_cards(fits, source):
            table.meta[keyword] = value
    try:
        table.write(path, format={".csv": "ascii.csv", ".ecsv": "ascii.ecsv"}.get(ending, "fits"))
    except OSError:
        raise
    except (TypeError, ValueError, LookupError, VerifyError) as error:
        raise UnsupportedError(
            f"{name_of(source)} can't be written as {ending}: {printable(str(error))}. Choose columns with --columns, or "
            "another kind of file"
        ) from error


def _check_flat(table: Table) -> None:
    deep = [name for name in table.colnames if _is_deep(table[name])]
    if deep:
        raise ConfigurationError(
            f"CSV has one value in each cell, and these columns have several: {', '.join(deep[:20])}. Choose others with --columns, or write "
            ".ecsv, .parquet or .fits"
        )


def _is_deep(column: Any) -> bool:
    dtype = getattr(column, "dtype", None)
    return dtype is None or column.ndim > 1 or dtype.kind == "O"


def _as_text(column: Column) -> Column:
    """Return a column of bytes as text; what is not ASCII is shown as its code."""
    import numpy as np

    values = np.char.decode(np.asarray(column), "ascii", "backslashreplace")
    made = type(column)(values, name=column.name, unit=column.unit, description=column.description)
    if hasattr(column, "mask"):
        made.mask = column.mask
    return made


def _to_arrow(table: Table) -> pa.Table:
    """Return a table for Parquet: values that are missing are null, and units stand in the fields."""
    from nuncius._core.lazy import require

    arrow = require("pyarrow", extra="parquet")
    plain = _plain(table)
    fields, arrays = [], []
    for name in plain.colnames:
        column = plain[name]
        array = _arrow_array(arrow, column)
        unit = {} if column.unit is None else {"unit": str(column.unit)}
        fields.append(arrow.field(name, array.type, metadata=unit))
        arrays.append(array)
    return arrow.table(arrays, schema=arrow.schema(fields))


def _arrow_array(arrow: Any, column: Column) -> Any:
    import numpy as np

    if column.dtype.kind == "c":
        raise ConfigurationError(
            f"column {column.name} has complex numbers, which Parquet doesn't; write .fits or .ecsv, or choose others with "
            "--columns"
        )
    if column.dtype.kind in "biuf" and column.ndim == 1:
        values = np.asarray(column)
        native = values.astype(values.dtype.newbyteorder("="))
        mask = np.asarray(column.mask) if hasattr(column, "mask") else None
        return arrow.array(native, mask=mask, from_pandas=False)
    kind = arrow.from_numpy_dtype(column.dtype.newbyteorder("=")) if column.dtype.kind in "biuf" else None
    for _ in range(column.ndim - 1 if kind is not None else 0):
        kind = arrow.list_(kind)
    return arrow.array(_values(column), type=kind)
