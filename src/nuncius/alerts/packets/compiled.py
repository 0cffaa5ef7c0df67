"""Schemas as programs for the compiled decoder, where there is one; fastavro reads the same without it.

A program is a list of nodes that `_avro.c` walks over. With names it is a projection: what is not named is passed over, and
behind the last name nothing is looked at.
"""

from __future__ import annotations

import importlib
import os
from decimal import Context
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

_PRIMITIVES = {"null": 0, "boolean": 1, "int": 2, "long": 2, "float": 3, "double": 4, "bytes": 5, "string": 6}
_FIXED, _ENUM, _ARRAY, _MAP, _UNION, _RECORD = range(7, 13)
_SIZES = {0: (0, 0), 1: (1, 1), 3: (4, 4), 4: (8, 8)}  # those that don't vary, and the least
_CONVERT = 7  # the place in a node of what makes the value of a logical type
_SWITCH = "NUNCIUS_COMPILED"
_MAX_DECIMAL_BYTES = 1024  # none in nature has a hundred digits; for a million Python takes minutes


@cache
def decoder() -> Any:
    """Return the compiled module; None if it was not built, or is switched off by NUNCIUS_COMPILED=0."""
    if os.environ.get(_SWITCH, "").strip() == "0":
        return None
    try:
        return importlib.import_module("nuncius.alerts.packets._avro")
    except ImportError:
        return None


def program_of(schema: Any, names: frozenset[str] | None = None) -> Any:
    """Make the program of a writer schema.

    Parameters
    ----------
    schema : object
        As fastavro has parsed it.
    names : frozenset of str, optional
        The fields to be decoded, such as ``objectId`` or ``candidate.ra``; by default all.

    Returns
    -------
    Program or None
        None if there is no compiled decoder, or the schema has something that it doesn't know.
    """
    module = decoder()
    if module is None:
        return None
    try:
        return module.Program(_Compiler().compile(schema, names))
    except _UnknownError:
        return None


def is_plain(schema: Any) -> bool:
    """Tell whether bytes that can be passed over can be decoded to a record: no logical type may refuse a value."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return False
    compiler = _Compiler()
    try:
        nodes = compiler.compile(schema, None)
    except _UnknownError:
        return False
    return all(node[_CONVERT] is None for node in nodes)


def programs_in_parts(
    schema: Any, lists: tuple[str, ...], keys: frozenset[str]
) -> tuple[Any, dict[str, Any]] | None:
    """Make programs that leave the entries of long lists undecoded.

    Parameters
    ----------
    schema : object
        As fastavro has parsed it.
    lists : tuple of str
        Fields of the record that are lists of records.
    keys : frozenset of str
        The fields of their entries that are decoded nevertheless.

    Returns
    -------
    (Program, dict of str to Program) or None
        The first gives all values, but of each list pairs: the byte where an entry begins, and its `keys`. The others
        decode an entry from there, without what is null. None where there is no compiled decoder, or where passing over
        an entry is not enough to know that it can be decoded.
    """
    module = decoder()
    if module is None or not isinstance(schema, dict) or schema.get("type") != "record":
        return None
    compiler = _Compiler(marked=dict.fromkeys(lists, keys))
    try:
        whole = module.Program(compiler.compile(schema, None))
        entries = {
            name: module.Program(_Compiler(definitions=compiler.definitions, sparse=True).compile(item, None))
            for name, item in compiler.items.items()
        }
    except _UnknownError:
        return None
    return whole, entries


class _UnknownError(Exception):
    """Something in a schema that only fastavro knows."""


class _Compiler:
    """Makes the nodes of one schema."""

    def __init__(
        self,
        marked: Mapping[str, frozenset[str]] | None = None,
        definitions: dict[str, Any] | None = None,
        *,
        sparse: bool = False,
    ) -> None:
        from fastavro.read import LOGICAL_READERS

        self.items: dict[str, Any] = {}  # the types of what the marked lists hold
        self.definitions: dict[str, Any] = definitions or {}
        self._marked = marked or {}
        self._sparse = sparse
        self._converters = LOGICAL_READERS
        self._nodes: list[Any] = []
        self._known: dict[tuple[str, frozenset[str] | None], int] = {}

    def compile(self, schema: Any, names: frozenset[str] | None) -> tuple[Any, ...]:
        self._define(schema)
        self._node(schema, names, stops=names is not None)
        return tuple(self._nodes)

    def _define(self, schema: Any) -> None:
        """Note the named types, which may be used before the place where a projection comes to their definition."""
        if isinstance(schema, list):
            for branch in schema:
                self._define(branch)
        elif isinstance(schema, dict):
            if schema.get("type") in {"record", "error", "enum", "fixed"}:
                self.definitions[schema["name"]] = schema
            for key in ("type", "items", "values"):
                self._define(schema.get(key))
            for item in schema.get("fields", ()):
                self._define(item["type"])

    def _node(self, schema: Any, names: frozenset[str] | None, *, stops: bool = False) -> int:
        """Add the node of a type, and those below it; return its number."""
        if isinstance(schema, str):
            if schema in _PRIMITIVES:
                return self._add(_PRIMITIVES[schema], *_SIZES.get(_PRIMITIVES[schema], (-1, 1)))
            if schema not in self.definitions:
                raise _UnknownError(schema)
            return self._node(self.definitions[schema], names)
        if isinstance(schema, list):
            return self._union(schema, names)
        kind, name = schema["type"], schema.get("name")
        if kind in {"record", "error", "enum", "fixed"} and (name, names) in self._known:
            return self._known[name, names]
        convert = self._converter(schema)
        if convert is not None and kind in {"record", "error", "array", "map"}:
            raise _UnknownError(kind)  # such a converter of the user's own wants the value whole
        if kind in _PRIMITIVES:
            number = _PRIMITIVES[kind]
            return self._add(number, *_SIZES.get(number, (-1, 1)), convert=convert, schema=schema)
        if kind in {"record", "error"}:
            return self._record(schema, names, stops=stops)
        if kind == "enum":
            found = self._add(_ENUM, -1, 1, names=tuple(schema["symbols"]), convert=convert, schema=schema)
        elif kind == "fixed":
            size = int(schema["size"])
            found = self._add(_FIXED, size, size, convert=convert, schema=schema)
        elif kind in {"array", "map"}:
            number = self._reserve()
            item = self._node(schema["items" if kind == "array" else "values"], names)
            what = _ARRAY if kind == "array" else _MAP
            return self._put(number, what, -1, 1, children=(item,))
        else:
            raise _UnknownError(kind)
        self._known[name, names] = found
        return found

    def _converter(self, schema: Any) -> Any:
        """Return what makes the value of a logical type; None for any that fastavro leaves as it is."""
        logical = f"{schema['type']}-{schema.get('logicalType')}"
        return _decimal if logical in {"bytes-decimal", "fixed-decimal"} else self._converters.get(logical)

    def _union(self, branches: list[Any], names: frozenset[str] | None) -> int:
        number = self._reserve()
        children = tuple(self._node(branch, names) for branch in branches)
        least = 1 + min((self._least(child) for child in children), default=0)
        return self._put(number, _UNION, -1, least, children=children)

    def _record(self, schema: Any, names: frozenset[str] | None, *, stops: bool) -> int:
        number = self._reserve()
        marked = self._marked if number == 0 else {}
        if not marked:  # a record that contains itself has no marks within
            self._known[schema["name"], names] = number
        fields = schema["fields"]
        wanted = [_below(item["name"], names) for item in fields]
        children = tuple(
            self._marked_list(item) if item["name"] in marked else self._node(item["type"], below or None)
            for item, below in zip(fields, wanted, strict=True)
        )
        style = int(self._sparse and number == 0)
        if (style or marked) and len({item["name"] for item in fields}) < len(fields):
            raise _UnknownError("two fields of one name")
        sizes = [self._nodes[child][5] if self._nodes[child] else -1 for child in children]
        looked_at = len(fields)
        if stops:
            looked_at = max((at + 1 for at, below in enumerate(wanted) if below is not None), default=0)
        return self._put(
            number,
            _RECORD,
            sum(sizes) if all(size >= 0 for size in sizes) else -1,
            sum(self._least(child) for child in children),
            children=children,
            names=tuple(item["name"] for item in fields),
            wanted=bytes(below is not None for below in wanted),
            looked_at=looked_at,
            style=style,
        )

    def _marked_list(self, field: Any) -> int:
        """Add the nodes of a list whose entries are not decoded: an array of plain records, or null."""
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        arrays = [kind for kind in kinds if kind != "null"]
        # Of two arrays nobody knows later in which an entry was.
        item = self._plain_item(arrays[0]) if len(arrays) == 1 else None
        if item is None:
            raise _UnknownError(field["name"])
        self.items[field["name"]] = item
        number = self._reserve()
        entry = self._node(item, self._marked[field["name"]])
        array = self._put(number, _ARRAY, -1, 1, children=(entry,), style=1)
        if kinds is not field["type"]:
            return array
        children = tuple(self._node(kind, None) if kind == "null" else array for kind in kinds)
        return self._add(_UNION, -1, 1 + min(map(self._least, children)), children=children)

    def _plain_item(self, kind: Any) -> Any:
        """Return the record that an array is of if all its fields are plain; None for any other type."""
        if not isinstance(kind, dict) or kind["type"] != "array" or self._converter(kind) is not None:
            return None
        item = kind["items"]
        if isinstance(item, str) and item not in _PRIMITIVES:  # whatever other type has taken its name
            item = self.definitions.get(item)
        if not isinstance(item, dict) or item["type"] != "record":
            return None
        return item if all(self._is_plain(part["type"]) for part in item["fields"]) else None

    def _is_plain(self, kind: Any) -> bool:
        """Tell whether bytes that were passed over as of this type can be decoded and written as JSON."""
        if isinstance(kind, list):
            return all(self._is_plain(branch) for branch in kind)
        if isinstance(kind, dict):
            return self._converter(kind) is None and self._is_plain(kind["type"])
        return kind in _PRIMITIVES

    def _least(self, child: int) -> int:
        """Return the least size of a value; of a record that is still being made, and so contains itself, 0."""
        return self._nodes[child][6] if self._nodes[child] else 0

    def _reserve(self) -> int:
        self._nodes.append(None)
        return len(self._nodes) - 1

    def _add(self, kind: int, fixed: int, least: int, **more: Any) -> int:
        return self._put(self._reserve(), kind, fixed, least, **more)

    def _put(
        self,
        number: int,
        kind: int,
        fixed: int,
        least: int,
        *,
        children: tuple[int, ...] = (),
        names: tuple[str, ...] = (),
        wanted: bytes = b"",
        looked_at: int = 0,
        convert: Any = None,
        schema: Any = None,
        style: int = 0,
    ) -> int:
        self._nodes[number] = (kind, children, names, wanted, looked_at, fixed, least, convert, schema, style)
        return number


def _decimal(data: bytes, schema: Any, _reader_schema: None) -> Decimal:
    """Make a decimal as fastavro does, but of a bounded size, and with a context that no other thread changes."""
    if len(data) > _MAX_DECIMAL_BYTES:
        raise ValueError(f"a decimal has {len(data)} bytes; at most {_MAX_DECIMAL_BYTES} are read")
    context = Context(prec=schema["precision"])
    unscaled = context.create_decimal(int.from_bytes(data, "big", signed=True))
    return unscaled.scaleb(-schema.get("scale", 0), context)


def _below(name: str, names: frozenset[str] | None) -> frozenset[str] | None:
    """Return what is wanted below a field: nothing named in it (all), some names, or None if it is not wanted at all."""
    if names is None or name in names:
        return frozenset()
    inner = frozenset(other[len(name) + 1 :] for other in names if other.startswith(f"{name}."))
    return inner or None
