"""What an archive answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from astropy.table import Table

    from nuncius.archives.filters import Document


class Result:
    """Documents, fetched when they are needed.

    Iterating gives them one by one as dictionaries; `docs` is a list of them all, kept once it was asked for.
    """

    __slots__ = ("_docs", "_fetch")

    def __init__(self, fetch: Callable[[], Iterator[Document]]) -> None:
        self._fetch = fetch
        self._docs: list[Document] | None = None

    @property
    def docs(self) -> list[Document]:
        """All documents."""
        if self._docs is None:
            self._docs = list(self._fetch())
        return self._docs

    def to_table(self) -> Table:
        """Return an astropy table, one row a document and one column a field; what is missing is masked.

        Nested fields become columns with dotted names. Lists and images stay as objects. Ids keep all their digits.
        """
        from astropy.table import MaskedColumn, Table

        names, rows = self._flat()
        table = Table(masked=True)
        for name in names:
            values = [row.get(name) for row in rows]
            table[name] = MaskedColumn(*_column(values))
        return table

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame, one row a document; nested fields become columns with dotted names.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        from nuncius._core.lazy import require

        pandas = require("pandas", extra="pandas")
        names, rows = self._flat()
        columns = {}
        for name in names:
            values = [row.get(name) for row in rows]
            integers = all(
                value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values
            )
            # Int64 keeps the digits of an id beside missing values, which a float column would round.
            if integers and any(values) and all(value is None or abs(value) < 2**63 for value in values):
                columns[name] = pandas.array(values, dtype="Int64")
            else:
                columns[name] = pandas.array(values, dtype=object) if _would_round(values) else values
        return pandas.DataFrame(columns, columns=names)

    def _flat(self) -> tuple[list[str], list[dict[str, Any]]]:
        rows = [_flattened(document) for document in self.docs]
        names: dict[str, None] = {}
        for row in rows:
            names.update(dict.fromkeys(row))
        return list(names), rows

    def __iter__(self) -> Iterator[Document]:
        return iter(self._docs) if self._docs is not None else self._fetch()

    def __len__(self) -> int:
        return len(self.docs)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __getitem__(self, index: Any) -> Any:
        return self.docs[index]

    def __repr__(self) -> str:
        return "<Result: not fetched yet>" if self._docs is None else f"<Result: {len(self._docs)} documents>"

    def _repr_html_(self) -> str:
        return f"<p>{len(self)} documents</p>{self.to_table()._repr_html_()}"


def _flattened(document: Document, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict) and value:
            flat.update(_flattened(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _column(values: list[Any]) -> tuple[Any, None, list[bool]]:
    """Return data, (no) name and mask of a column."""
    import numpy as np

    missing = [value is None for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(value is None or abs(value) < 2**63 for value in values):
        return np.array([value or 0 for value in values], dtype=np.int64), None, missing
    for kind, filler in ((bool, False), (str, "")):
        if kinds == {kind}:
            return np.array([filler if value is None else value for value in values]), None, missing
    if kinds <= {int, float} and not _would_round(values):
        return np.array([np.nan if value is None else value for value in values], dtype=float), None, missing
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column, None, missing


def _would_round(values: list[Any]) -> bool:
    """Tell whether a column of floats could not hold the whole numbers among the values."""
    return any(type(value) is int and abs(value) > 2**53 for value in values)
