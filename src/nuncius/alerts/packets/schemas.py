"""Avro writer schemas: prepared once for decoding, and found by their number for framed packets.

A framed packet (Confluent framing, as Rubin sends it) names its schema by a number. The schema then comes from a
mapping, from a directory, or from a schema registry.

Sources: Apache Avro 1.12 specification; lsst/alert_packet for the rule `id = major * 100 + minor`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from nuncius.alerts.packets.compiled import is_plain, program_of, programs_in_parts
from nuncius.errors import ConfigurationError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Hashable

MAX_DEPTH = 64
"""How deep a schema may nest; those of today's surveys reach 6."""

MAX_VALUES = 20_000
"""How many values a record may hold, its arrays counted with one item; those of today's surveys hold below 1000."""

_MAX_FIXED_BYTES = 2**31 - 1

_CACHED_SCHEMAS = 64
_PRIMITIVE_SIZES = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """A schema as it was written, ready for decoding.

    Parameters
    ----------
    name : str
        Its full name, such as ``ztf.alert`` or ``lsst.v9_0.alert``.
    parsed : object
        What fastavro decodes with.
    digest : bytes
        Equal for equal schemas, whatever their default values.
    """

    name: str
    parsed: Any = field(repr=False)
    digest: bytes = field(repr=False)
    _clean: Any = field(repr=False, compare=False)
    _beginnings: dict[frozenset[str], WriterSchema] = field(default_factory=dict, repr=False, compare=False)
    _programs: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def program(self, names: frozenset[str] | None = None) -> Any:
        """Return the program for the compiled decoder, for all fields or for those named; None if there is none."""
        if names not in self._programs:
            self._programs[names] = program_of(self.parsed, names)
        return self._programs[names]

    def checker(self) -> Any:
        """Return a program by which passing over a record shows that it can be decoded; None if there is none."""
        if "checker" not in self._programs:
            self._programs["checker"] = self.program() if is_plain(self.parsed) else None
        return self._programs["checker"]

    def programs_in_parts(self, lists: tuple[str, ...], keys: frozenset[str]) -> Any:
        """Return the programs that leave the entries of long lists undecoded; None if there are none."""
        key = (*lists, keys)
        if key not in self._programs:
            self._programs[key] = programs_in_parts(self.parsed, lists, keys)
        return self._programs[key]

    def beginning(self, names: frozenset[str]) -> WriterSchema:
        """Return the schema cut off behind the last of the fields named.

        A record is written field after field, so that the cut schema reads just the beginning of the same bytes.
        """
        found = self._beginnings.get(names)
        if found is None:
            fields = self._clean.get("fields", [])
            last = max(
                (index for index, item in enumerate(fields) if item["name"] in names), default=len(fields) - 1
            )
            found = prepare_schema({**self._clean, "fields": fields[: last + 1]})
            self._beginnings[names] = found
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return prepare_schema, (self._clean,)


@runtime_checkable
class SchemaSource(Protocol):
    """Where the schemas of framed packets come from."""

    def find(self, schema_id: int) -> WriterSchema:
        """Return the schema of that number, or raise `SchemaError`."""


SchemaLike: TypeAlias = (
    "SchemaSource | WriterSchema | Mapping[int, Any] | Mapping[str, Any] | str | Path | None"
)
"""What is accepted as `schema=`: one writer schema, a mapping from number to schema, a directory, a registry URL."""


class _Cache:
    """The last few values, found by key; safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any:
        with self._lock:
            value = self._items.get(key)
            if value is not None:
                self._items.move_to_end(key)
            return value

    def put(self, key: Any, value: Any) -> None:
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._size:
                self._items.popitem(last=False)


_by_text = _Cache(_CACHED_SCHEMAS)


def prepare_schema_text(text: bytes) -> WriterSchema:
    """Prepare a writer schema given as JSON; the same text is parsed only once.

    Raises
    ------
    SchemaError
        If it is not a usable Avro schema.
    """
    known: WriterSchema | None = _by_text.get(text)
    if known is not None:
        return known
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"the writer schema is not JSON: {error}") from error
    prepared = prepare_schema(schema)
    _by_text.put(text, prepared)
    return prepared


def prepare_schema(schema: Any) -> WriterSchema:
    """Prepare a writer schema given as Python values.

    Default values are taken out: they play no part in decoding with the writer's own schema, and TURBO's schema has
    invalid ones. Schemas that could make a decoder run or recurse without bound are refused. Records that contain
    themselves are read by the compiled decoder, which bounds their depth; without it they are refused too.

    Raises
    ------
    SchemaError
        If it is not a usable Avro schema.
    """
    if isinstance(schema, WriterSchema):
        return schema
    import fastavro
    from fastavro.schema import SchemaParseException, UnknownType

    try:
        clean = _cleaned(schema, depth=0)
        parsed = fastavro.parse_schema(clean)
        recursive = _check_bounded(parsed)
    except (
        SchemaParseException,
        UnknownType,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"not a usable Avro schema: {type(error).__name__}: {error}") from error
    name = parsed.get("name", "") if isinstance(parsed, dict) else ""
    digest = hashlib.blake2b(json.dumps(clean).encode(), digest_size=16).digest()
    prepared = WriterSchema(name=str(name), parsed=parsed, digest=digest, _clean=clean)
    if recursive and prepared.program() is None:
        raise SchemaError(
            f"the record {recursive} contains itself; only the compiled decoder reads such schemas, as it bounds their "
            "depth. Cure: install nuncius from a wheel or where a C compiler is, without NUNCIUS_COMPILED=0"
        )
    return prepared


def as_source(schema: SchemaLike) -> SchemaSource | WriterSchema | None:
    """Turn what a user gives as `schema=` into one writer schema or into a source of them.

    Raises
    ------
    ConfigurationError
        If it is none of the accepted forms.
    """
    # A text has a method `find` too, so that it would pass for a source of schemas.
    is_text = isinstance(schema, (str, bytes, bytearray))
    if (
        schema is None
        or isinstance(schema, WriterSchema)
        or (isinstance(schema, SchemaSource) and not is_text)
    ):
        return schema
    if isinstance(schema, Mapping):
        if all(isinstance(key, int) for key in schema):
            return MappedSchemas({int(key): value for key, value in schema.items()})
        return prepare_schema(dict(schema))
    if isinstance(schema, (str, Path)):
        return _source_at(str(schema))
    raise ConfigurationError(
        "schema= takes a writer schema, a mapping from number to schema, a directory or a registry URL, "
        f"not {type(schema).__name__}"
    )


@cache
def _source_at(place: str) -> SchemaSource:
    """Make the source at an address, once: what it has prepared is then found again by the next packet."""
    if re.match(r"https?://", place):
        from nuncius.alerts.packets.registry import RegistrySchemas

        return RegistrySchemas(place)
    return DirectorySchemas(Path(place))


@dataclass(slots=True)
class MappedSchemas:
    """Schemas given as a mapping from their number to the writer schema."""

    schemas: dict[int, Any] = field(repr=False)
    _prepared: dict[int, WriterSchema] = field(default_factory=dict, repr=False)

    def find(self, schema_id: int) -> WriterSchema:
        """Return the schema of that number, or raise `SchemaError`."""
        if schema_id not in self._prepared:
            if schema_id not in self.schemas:
                raise _unknown(schema_id, "the mapping", self.schemas)
            self._prepared[schema_id] = prepare_schema(self.schemas[schema_id])
        return self._prepared[schema_id]


@dataclass(slots=True)
class DirectorySchemas:
    """Schemas in a directory tree.

    Two layouts are known: one file for each number (``900.avsc`` or ``900.json``), and Rubin's
    (``…/lsst.v9_0.alert.avsc`` beside the records that it names), whose number is 100 times the major version plus the
    minor one.
    """

    path: Path
    _prepared: dict[int, WriterSchema] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise ConfigurationError(
                f"the schema directory {self.path} does not exist", position=str(self.path)
            )

    def find(self, schema_id: int) -> WriterSchema:
        """Return the schema of that number, or raise `SchemaError`."""
        known = self._prepared.get(schema_id)
        if known is None:
            known = self._prepared[schema_id] = self._load(schema_id)
        return known

    def _load(self, schema_id: int) -> WriterSchema:
        files = self._files()
        if schema_id not in files:
            raise _unknown(schema_id, f"the directory {self.path}", files)
        path = files[schema_id]
        try:
            schema = json.loads(path.read_bytes())
            return prepare_schema(_with_parts(schema, path.parent, {}))
        except (OSError, ValueError, RecursionError) as error:
            raise SchemaError(f"the schema file {path} can't be used: {error}", position=str(path)) from error

    def _files(self) -> dict[int, Path]:
        files = {}
        for path in sorted(self.path.rglob("*")):
            if number := re.fullmatch(r"(\d+)\.(avsc|json)", path.name):
                files[int(number[1])] = path
            elif version := re.fullmatch(r"lsst\.v(\d+)_(\d+)\.alert\.avsc", path.name):
                files[100 * int(version[1]) + int(version[2])] = path
        return files


def _with_parts(schema: Any, folder: Path, seen: dict[str, Any]) -> Any:
    """Put the records that stand in files of their own in the place of their first mention."""
    if isinstance(schema, str) and "." in schema and schema not in seen:
        path = folder / f"{schema}.avsc"
        if path.is_file():
            seen[schema] = None
            return _with_parts(json.loads(path.read_bytes()), folder, seen)
        return schema
    if isinstance(schema, list):
        return [_with_parts(item, folder, seen) for item in schema]
    if isinstance(schema, dict):
        return {
            key: _with_parts(value, folder, seen) if key in {"type", "items", "values", "fields"} else value
            for key, value in schema.items()
        }
    return schema


def _unknown(schema_id: int, where: str, known: Mapping[int, Any]) -> SchemaError:
    names = ", ".join(str(number) for number in sorted(known)) or "none"
    return SchemaError(
        f"schema {schema_id} is not in {where} (known there: {names}). A packet is never read with another schema: "
        "get this one and give it with schema="
    )


# With its own marks fastavro takes a schema as it is, unchecked, and further types from a place that is not looked at here.
_LEFT_OUT = {"default", "__fastavro_parsed", "__named_schemas"}


def _cleaned(schema: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise SchemaError(f"the writer schema nests deeper than {MAX_DEPTH} levels")
    if isinstance(schema, dict):
        return {key: _cleaned(value, depth + 1) for key, value in schema.items() if key not in _LEFT_OUT}
    if isinstance(schema, list):
        return [_cleaned(item, depth + 1) for item in schema]
    return schema


@dataclass(frozen=True, slots=True)
class _Extent:
    """How many bytes a value takes at least, how deep it nests, and how many values it holds without its arrays."""

    size: int
    depth: int = 0
    values: int = 1


def _check_bounded(schema: Any) -> str:
    """Refuse schemas with which a few hostile bytes keep a decoder busy for ever, or break its stack.

    Returns the name of a record that contains itself, if there is one.
    """
    named: dict[str, _Extent] = {}
    recursive = ""

    def extent(node: Any, inside: tuple[str, ...], surely: tuple[str, ...]) -> _Extent:
        if isinstance(node, list):
            branches = [extent(branch, inside, ()) for branch in node]
            return _around(branches, size=1 + min((branch.size for branch in branches), default=0))
        if isinstance(node, str):
            if node in _PRIMITIVE_SIZES:  # whatever other type has taken its name
                return _Extent(_PRIMITIVE_SIZES[node])
            if node in surely:
                raise SchemaError(f"the record {node} contains itself without end: there is no such value")
            if node in inside:
                # A value that ends has a union or a count on the way, which takes a byte.
                nonlocal recursive
                recursive = node
                return _Extent(1)
            return named[node]
        kind, name = node["type"], str(node.get("name", ""))
        if kind in {"array", "map"}:
            item = extent(node["items" if kind == "array" else "values"], inside, ())
            if item.size == 0 and kind == "array":
                raise SchemaError("an array of items that take no bytes is not read: it could be endless")
            return _around([item], size=1)
        if kind in {"record", "error"}:
            if not all(isinstance(item["name"], str) for item in node["fields"]):
                raise SchemaError(f"a field of the record {name} has a name that is not a text")
            parts = [extent(item["type"], (*inside, name), (*surely, name)) for item in node["fields"]]
            found = _around(parts, size=sum(part.size for part in parts))
        elif kind == "fixed":
            found = _Extent(node["size"])
            if not isinstance(found.size, int) or not 0 <= found.size <= _MAX_FIXED_BYTES:
                raise SchemaError(f"the fixed type {name} has the impossible size {found.size!r}")
        else:
            return extent(kind, inside, surely) if kind != "enum" else named.setdefault(name, _Extent(1))
        named[name] = found
        return found

    extent(schema, (), ())
    return recursive


def _around(parts: list[_Extent], *, size: int) -> _Extent:
    # Named records may be used again and again, so that a short text can describe a value without end.
    depth = 1 + max((part.depth for part in parts), default=0)
    values = 1 + sum(part.values for part in parts)
    if depth > MAX_DEPTH:
        raise SchemaError(f"the writer schema nests deeper than {MAX_DEPTH} levels")
    if values > MAX_VALUES:
        raise SchemaError(f"the writer schema describes more than {MAX_VALUES} values")
    return _Extent(size, depth, values)
