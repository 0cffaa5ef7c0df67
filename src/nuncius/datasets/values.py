"""What a dserver answers: dictionaries as the server gives them, with what one needs of them beside."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

from nuncius._core.lazy import require
from nuncius._core.terminal import printable
from nuncius.datasets.places import Item
from nuncius.datasets.readmes import parse_yaml
from nuncius.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from astropy.table import Table

_DEEPEST_TEXT = 100_000
_COLUMNS = (
    "name",
    "creator_username",
    "created",
    "frozen",
    "number_of_items",
    "size_in_bytes",
    "tags",
    "base_uri",
    "uri",
    "uuid",
)


class Record(dict[str, Any]):
    """A dictionary whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}; there are {', '.join(map(str, self))}") from None

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *(str(name) for name in self)]


class DataSet(Record):
    """A data set: what the server says of it, as it says it.

    ``uri``, ``uuid``, ``name``, ``base_uri``, ``creator_username``, ``created_at``, ``frozen_at``, ``number_of_items``,
    ``size_in_bytes``; a Mongo query also gives ``tags``, ``type`` and ``dtoolcore_version``, and a dependency graph
    ``derived_from``.
    """

    @property
    def created(self) -> datetime | None:
        """When it was made, UTC; `created_at` in whatever form the server writes it."""
        return moment(self.get("created_at"))

    @property
    def frozen(self) -> datetime | None:
        """When it was frozen, UTC; nothing in it changes after that."""
        return moment(self.get("frozen_at"))

    def __repr__(self) -> str:
        return printable(f"<DataSet {self.get('name')!r} {self.get('uri')}>")


class DataSets(list[DataSet]):
    """Data sets.

    Parameters
    ----------
    found : iterable of DataSet
        They.
    pagination, sorting : mapping, optional
        What the server says of the page, and how it is sorted.
    total : int, optional
        How many there are on the server; as many as here, by default.
    """

    def __init__(
        self,
        found: Iterable[DataSet] = (),
        *,
        pagination: Mapping[str, Any] | None = None,
        sorting: Mapping[str, int] | None = None,
        total: int | None = None,
    ) -> None:
        super().__init__(found)
        self.pagination = dict(pagination or {})
        self.sorting = dict(sorting or {})
        self.total = len(self) if total is None else total

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return DataSets(found, sorting=self.sorting) if isinstance(index, slice) else found

    def to_table(self) -> Table:
        """Return an astropy table, one row a data set; `created` and `frozen` are UTC, and what is missing is masked."""
        import numpy as np
        from astropy.table import MaskedColumn, Table

        table = Table(masked=True)
        for name in _COLUMNS:
            values = [_cell(data_set, name) for data_set in self]
            missing = [value is None for value in values]
            if name in {"created", "frozen"}:
                # numpy knows no time zone: all of them are UTC.
                bare = [value and value.replace(tzinfo=None) for value in values]
                data = np.array(bare, dtype="datetime64[us]")
            elif name in {"number_of_items", "size_in_bytes"}:
                data = np.array([value or 0 for value in values], dtype=np.int64)
            else:
                data = np.array([value or "" for value in values], dtype=str)
            table[name] = MaskedColumn(data, mask=missing)
        return table

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame, one row a data set; `created` and `frozen` know that they are UTC.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        import numpy as np

        pandas = require("pandas", extra="pandas")
        columns = {}
        for name in _COLUMNS:
            values = [_cell(data_set, name) for data_set in self]
            if name in {"created", "frozen"}:
                # Through microseconds: nanoseconds end in the year 2262.
                bare = [value and value.replace(tzinfo=None) for value in values]
                columns[name] = pandas.Series(np.array(bare, dtype="datetime64[us]")).dt.tz_localize("UTC")
            elif name in {"number_of_items", "size_in_bytes"}:
                columns[name] = pandas.array(values, dtype="Int64")
            else:
                columns[name] = pandas.Series(values, dtype=object)
        return pandas.DataFrame(columns, columns=list(_COLUMNS))

    def __repr__(self) -> str:
        more = "" if self.total == len(self) else f" of {self.total}"
        names = ", ".join(str(data_set.get("name")) for data_set in self[:3])
        text = f"<DataSets: {len(self)}{more}{': ' + names if names else ''}{', …' if len(self) > 3 else ''}>"
        return printable(text)

    def _repr_html_(self) -> str:
        from html import escape

        shown = [name for name in _COLUMNS if name not in {"base_uri", "uuid"}]
        if not any("tags" in data_set for data_set in self):
            shown.remove("tags")  # a search sends none, which is not the same as having none
        head = "".join(f"<th>{name}</th>" for name in shown)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(_shown(data_set, name))}</td>" for name in shown) + "</tr>"
            for data_set in self[:50]
        )
        more = f" The first 50 of {len(self)} are shown." if len(self) > 50 else ""
        of = "" if self.total == len(self) else f" of {self.total}"
        return f"<p>{len(self)} data sets{of}.{more}</p><table><tr>{head}</tr>{rows}</table>"


class Readme(str):  # noqa: SLOT000 - what was parsed is kept in it
    """A readme: the text, and what it says if it is YAML."""

    @cached_property
    def _parsed(self) -> tuple[Any, str | None]:
        return parse_yaml(str(self))  # the C parser wants a plain text

    @property
    def data(self) -> Any:
        """What the text says: mostly a dictionary; None where it is no YAML. It is parsed when this is first touched."""
        return self._parsed[0]

    @property
    def error(self) -> str | None:
        """Why the text is no YAML; None where it is."""
        return self._parsed[1]

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self)}</pre>"


class Manifest(Record):
    """What is in a data set: ``dtoolcore_version``, ``hash_function`` and ``items``, by identifier.

    Parameters
    ----------
    values : mapping
        What the server says.
    uri : str
        Of the data set.
    config_file : str, optional
        Where dtool's settings of the stores are, if not in the usual place.
    """

    data_set_uri: str

    def __init__(self, values: Mapping[str, Any], uri: str, config_file: str | None = None) -> None:
        super().__init__(values)
        self.data_set_uri = uri
        self._config_file = config_file

    @property
    def files(self) -> list[Item]:
        """The items, in the order of their paths.

        Raises
        ------
        ServerError
            If an item is none.
        """
        found = self.get("items")
        if not isinstance(found, dict):
            raise ServerError(f"the manifest of {self.data_set_uri} has no items: it is damaged")
        items = [self._item(identifier, entry) for identifier, entry in found.items()]
        return sorted(items, key=lambda item: item.relpath)

    @property
    def size(self) -> int:
        """Of all items together, in bytes."""
        return sum(item.size for item in self.files)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.data_set_uri, self._config_file)

    def _item(self, identifier: Any, entry: Any) -> Item:
        if not isinstance(entry, dict) or not isinstance(entry.get("relpath"), str):
            raise ServerError(
                f"the manifest of {self.data_set_uri} is damaged: the item {str(identifier)[:60]!r} has no relpath"
            )
        size = entry.get("size_in_bytes")
        return Item(
            relpath=entry["relpath"],
            identifier=str(identifier),
            size=size if _is_count(size) else 0,
            hash=str(entry.get("hash") or ""),
            modified=moment(entry.get("utc_timestamp")),
            data_set_uri=self.data_set_uri,
            config_file=self._config_file,
        )

    def __repr__(self) -> str:
        found = self.get("items")
        return f"<Manifest of {self.data_set_uri}: {len(found) if isinstance(found, dict) else 'no'} items>"

    def _repr_html_(self) -> str:
        from html import escape

        files = self.files
        rows = "".join(f"<tr><td>{escape(i.relpath)}</td><td>{i.size:,}</td></tr>" for i in files[:50])
        more = f" The first 50 of {len(files)} are shown." if len(files) > 50 else ""
        return f"<p>{len(files)} items, {self.size:,} bytes.{more}</p><table><tr><th>path</th><th>bytes</th></tr>{rows}</table>"


class Details(Record):
    """What was asked of one data set: `uri`, the parts that came, and `errors`, by part."""

    def __repr__(self) -> str:
        came = [name for name in self if name not in {"uri", "errors"}]
        failed = f", {', '.join(self['errors'])} failed" if self["errors"] else ""
        return f"<Details of {self['uri']}: {', '.join(came) or 'nothing'}{failed}>"


def moment(value: Any) -> datetime | None:
    """Read a time in any of the forms in which servers write them; None for what is none.

    A number (seconds since 1970), the same as a text, RFC 1123 (``"Sun, 08 Nov 2020 18:38:40 GMT"``), or ISO 8601. What
    names no time zone is UTC.
    """
    if isinstance(value, bool) or value is None:
        return None
    try:
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, UTC)
        text = str(value).strip()
        if text.replace(".", "", 1).replace("-", "", 1).isdigit() and "-" not in text[1:]:
            return datetime.fromtimestamp(float(text), UTC)
        if "," in text:
            return _aware(parsedate_to_datetime(text))
        return _aware(datetime.fromisoformat(text))
    except (ValueError, OverflowError, OSError):
        return None


def _aware(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def annotation(value: Any) -> Any:
    """Return an annotation as what it was before the server wrote it as text.

    dservercore 0.22.0 sends ``str(value)``: numbers, lists and dictionaries are read from it again, and what is none of them
    is a text. Later servers send JSON, which is left as it is. A text such as ``"3"`` can't be told from the number.
    """
    if not isinstance(value, str) or len(value) > _DEEPEST_TEXT:
        return value
    try:
        read = ast.literal_eval(value)
        # What the server wrote as text, it would write so again; "2020_11_08" and "0x10" only look like numbers. None it
        # sends as null, so that "None" is a text.
        return read if isinstance(read, (int, float, list, dict)) and str(read) == value else value
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def _is_count(value: Any) -> TypeGuard[int]:
    """Tell whether a value is a number of items or of bytes, which 64 bits can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _cell(data_set: DataSet, name: str) -> Any:
    if name in {"created", "frozen"}:
        return getattr(data_set, name)
    value = data_set.get(name)
    if name in {"number_of_items", "size_in_bytes"}:
        return value if _is_count(value) else None
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return None if value is None else str(value)


def _shown(data_set: DataSet, name: str) -> str:
    value = _cell(data_set, name)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value
