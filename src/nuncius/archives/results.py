"""What an archive answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    import pandas as pd
    from astropy.table import Table

    from nuncius.archives.backend import Failure
    from nuncius.archives.language import Document


class Rows:
    """Documents that are read anew each time they are iterated over.

    Parameters
    ----------
    read : callable
        Starts a reading.
    """

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], Iterable[Document]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Document]:
        return iter(self._read())


class Result:
    """Documents.

    Iterating gives them one by one as dictionaries; `docs` is a list of them all, kept once it was asked for. From an
    archive in a file they are read when they are needed; from a remote one they are here.

    Parameters
    ----------
    documents : iterable of dict
        They can be iterated over again.
    keys : sequence, optional
        Of a search around positions: what the positions are called, in the order asked.
    failures : sequence of Failure
        The positions that could not be asked (only with ``allow_partial=True``).
    pairs : bool
        Whether it is a cross-match: tables have a row for each pair, with columns ``match.…`` of the second catalog.
    """

    __slots__ = ("_docs", "_documents", "_pairs", "failures", "keys")

    def __init__(
        self,
        documents: Iterable[Document],
        *,
        keys: Sequence[Hashable] | None = None,
        failures: Sequence[Failure] = (),
        pairs: bool = False,
    ) -> None:
        self._documents = documents
        self._docs: list[Document] | None = documents if isinstance(documents, list) else None
        self.keys = keys
        self.failures = tuple(failures)
        self._pairs = pairs

    @property
    def docs(self) -> list[Document]:
        """All documents."""
        if self._docs is None:
            self._docs = list(self._documents)
        return self._docs

    @property
    def complete(self) -> bool:
        """Whether every part of the question was answered."""
        return not self.failures

    def by_position(self) -> dict[Hashable, list[Document]]:
        """Return the documents of each position, by the caller's own keys (else by number), in the order asked.

        A position around which nothing was found has an empty list; one that failed is not there.

        Raises
        ------
        UnsupportedError
            If these are not the documents of a search around positions.
        """
        if self.keys is None:
            raise UnsupportedError("only the result of cone_search and near is divided by position")
        failed = {index for failure in self.failures for index in failure.indexes}
        groups: list[list[Document]] = [[] for _ in self.keys]
        for document in self.docs:
            groups[document["input_index"]].append(document)
        return {
            key: group
            for index, (key, group) in enumerate(zip(self.keys, groups, strict=True))
            if index not in failed
        }

    def nearest(self) -> dict[Hashable, Document | None]:
        """Return the nearest document of each position, or None; see `by_position`."""
        return {key: group[0] if group else None for key, group in self.by_position().items()}

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
        rows = [row for document in self.docs for row in (_paired if self._pairs else _alone)(document)]
        names: dict[str, None] = {}
        for row in rows:
            names.update(dict.fromkeys(row))
        return list(names), rows

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents if self._docs is None else self._docs)

    def __len__(self) -> int:
        return len(self.docs)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __getitem__(self, index: Any) -> Any:
        return self.docs[index]

    def __repr__(self) -> str:
        missing = "" if self.complete else f", {sum(len(f.indexes) for f in self.failures)} positions failed"
        return f"<Result: {'not fetched yet' if self._docs is None else f'{len(self._docs)} documents'}{missing}>"

    def _repr_html_(self) -> str:
        return f"<p>{len(self)} documents</p>{self.to_table()._repr_html_()}"


def _alone(document: Document) -> list[dict[str, Any]]:
    return [_flattened(document)]


def _paired(document: Document) -> list[dict[str, Any]]:
    left = _flattened({name: value for name, value in document.items() if name != "matches"})
    return [{**left, **_flattened(match, "match.")} for match in document["matches"]]


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
