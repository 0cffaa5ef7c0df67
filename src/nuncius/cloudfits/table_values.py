"""Values of columns that astropy doesn't give, or not as the FITS Standard has them.

For these columns astropy is shown the numbers as they are stored; what they mean is worked out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from astropy.table import Table
    from numpy.typing import NDArray

    from nuncius.cloudfits.table_header import Field


def is_own(field: Field) -> bool:
    """Return whether the values of a column of a binary table are worked out here.

    All that are scaled are. astropy looks for TNULL among the scaled values, while the Standard means the stored ones (FITS
    4.0, 7.3.2); it drops the imaginary part of complex numbers and fails at most scaled integers of 64 bits; in columns of
    variable length it scales the first cell only, in the type of the stored numbers, and fails if there is a TNULL. Unsigned
    integers are left to it, unless TNULL can only mean a stored value: it writes the one that is meant.
    """
    null = field.column.null
    if field.descriptor:
        return field.is_scaled or null is not None
    return field.is_scaled and not (field.is_unsigned and (null is None or int(null) >= 0))


def physical(stored: NDArray[Any], field: Field) -> NDArray[Any]:
    """Return what stored numbers mean: scaled, unsigned where TZERO says so, and masked where they are TNULL.

    Parameters
    ----------
    stored : array
        Of any shape.
    field : Field
        Their column.

    Returns
    -------
    array or masked array
        Unsigned integers of the same size, complex128 or float64; of the stored type if they aren't scaled.
    """
    import numpy as np

    values = native = stored.astype(stored.dtype.newbyteorder("="))
    unsigned = field.is_unsigned and native.dtype.kind == "i"
    if unsigned:
        kind = np.dtype(f"u{native.itemsize}")
        # To add 2**(bits - 1) is to turn the sign bit: exact for 64 bits too.
        values = native.view(kind) ^ kind.type(1 << (8 * native.itemsize - 1))
    elif field.is_scaled:
        values = native.astype("c16" if field.code in "CM" else "f8")
        values *= 1 if field.column.scale is None else field.column.scale
        values += 0 if field.column.zero is None else field.column.zero
    if field.column.null is None:
        return values
    null = int(field.column.null)
    return np.ma.MaskedArray(values, mask=(values if unsigned and null >= 0 else native) == null)


def blank_nulls(
    places: Sequence[tuple[Field, int]], stored: NDArray[np.uint8]
) -> dict[str, NDArray[np.bool_]]:
    """Blank the cells of an ASCII table that are TNULL, and return where they are, by column.

    astropy can't make a `Table` of such a column; a blank cell it takes.

    Parameters
    ----------
    places : sequence of (Field, int)
        The columns, and where each begins in a row.
    stored : array of uint8, shape (rows, bytes)
        Changed in place.
    """
    import numpy as np

    found = {}
    for field, at in places:
        if field.column.null is None:
            continue
        cells = np.ascontiguousarray(stored[:, at : at + field.width])
        texts = np.char.strip(cells.view(f"S{field.width}")[:, 0])
        null = str(field.column.null).strip().encode("latin-1", "replace")[: field.width]
        found[field.column.name] = mask = texts == null
        stored[mask, at : at + field.width] = ord(" ")
    return found


def correct(table: Table, fields: Sequence[Field], nulls: Mapping[str, NDArray[np.bool_]]) -> None:
    """Put the values that the Standard gives into a table.

    Parameters
    ----------
    table : Table
        With the numbers of these columns as they are stored; changed in place.
    fields : sequence of Field
        The columns whose values are worked out here.
    nulls : mapping of str to array of bool, shape (rows,)
        What is masked in other columns.
    """
    import numpy as np

    for field in fields:
        column = table[field.column.name]
        if field.descriptor:
            values = np.empty(len(column), dtype=object)
            for row, cell in enumerate(column):
                values[row] = physical(np.asarray(cell), field)
        else:
            # astropy has masked what is no number.
            missing = getattr(column, "mask", np.ma.nomask)
            values = physical(np.asarray(column), field)
            if missing is not np.ma.nomask:
                values = np.ma.MaskedArray(values, mask=missing | np.ma.getmaskarray(values))
        _replace(table, field.column.name, values)
    for name, mask in nulls.items():
        column = table[name]
        _replace(table, name, np.ma.MaskedArray(column, mask=mask | np.ma.getmaskarray(column)))


def _replace(table: Table, name: str, values: NDArray[Any]) -> None:
    import numpy as np
    from astropy.table import Column, MaskedColumn

    old = table[name]
    options = {"name": name, "unit": old.unit, "format": old.format, "copy": False}
    if not isinstance(values, np.ma.MaskedArray):
        table.replace_column(name, Column(values, **options))
        return
    fill = np.nan if values.dtype.kind in "fc" else None
    table.replace_column(name, MaskedColumn(values, fill_value=fill, **options))
