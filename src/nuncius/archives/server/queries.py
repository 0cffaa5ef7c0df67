"""The query types of Kowalski, asked of an archive through its public methods."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius.archives.language import bounded
from nuncius.archives.language.bounds import check_time
from nuncius.archives.server import checks
from nuncius.archives.server.limits import forbidden, invalid, wrong
from nuncius.archives.server.positions import angle_arcsec, read_positions
from nuncius.archives.server.reading import read_json, read_literal
from nuncius.archives.server.wire import encode
from nuncius.archives.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuncius.archives.language import Document
    from nuncius.archives.server.limits import Limits, TimeLeft
    from nuncius.archives.server.skymaps import SkyMaps

QUERY_TYPES = (
    "cone_search", "count_documents", "estimated_document_count", "find", "find_one", "aggregate", "info", "near",
    "drop", "skymap",
)  # fmt: skip
COMMANDS = ("catalog_names", "catalog_info", "index_info", "db_info")
_DONE = b'{"status":"success","message":"Successfully executed query"'
_MOST_CANDIDATES = (
    3_000_000  # documents around all positions of a request, before any filter: they are in memory
)
_ARCMIN_RAD = 0.0002908882086657216  # Kowalski's default radius: a minute of arc, if the units are radians


@dataclass(slots=True)
class Query:
    """One query as it arrived, and what it cost."""

    type: str
    query: dict[str, Any]
    kwargs: dict[str, Any]
    time: TimeLeft
    catalogs: list[str] = field(default_factory=list)
    computes: bool = False  # documents that are not those of the archive
    rows: int = 0
    bytes: int = 0


class Queries:
    """Answers queries.

    Parameters
    ----------
    archive : EmbeddedArchive
        What is asked; opened read-only.
    catalogs : collection of str, optional
        Which catalogs are opened; all of them by default, those that come later too.
    limits : Limits
        What a query may cost.
    skymaps : SkyMaps
        The sky maps that were put in.
    """

    def __init__(
        self, archive: Any, *, catalogs: Iterable[str] | None, limits: Limits, skymaps: SkyMaps
    ) -> None:
        self._archive = archive
        self._chosen = None if catalogs is None else frozenset(catalogs)
        self._limits = limits
        self._skymaps = skymaps
        self._answers: dict[str, Callable[[Query], bytes | None]] = {
            "find": self._find,
            "find_one": self._find_one,
            "count_documents": self._count,
            "estimated_document_count": self._estimated_count,
            "aggregate": self._aggregate,
            "cone_search": self._cone_search,
            "near": self._near,
            "skymap": self._skymap,
            "info": self._info,
            "drop": self._drop,
        }

    def opened(self) -> list[str]:
        """Return the names of the opened catalogs, sorted."""
        names = self._archive.catalogs()
        return [
            name
            for name in names
            if (self._chosen is None or name in self._chosen) and name.lower() not in checks.PROTECTED
        ]

    def read(self, body: bytes, time: TimeLeft) -> Query:
        """Read the body of a request.

        Raises
        ------
        Refusal
            If it is no query.
        """
        request = read_json(body, self._limits)
        if not isinstance(request, dict):
            raise wrong("AttributeError", f"{type(request).__name__!r} object has no attribute 'get'")
        kind = request.get("query_type")
        if not isinstance(kind, str) or kind not in QUERY_TYPES:
            raise wrong("KeyError", repr(f"query_type {str(kind)[:80]} not in {QUERY_TYPES}"))
        query, kwargs = request.get("query"), request.get("kwargs")
        if not isinstance(query, dict):
            raise wrong("AttributeError", f"{type(query).__name__!r} object has no attribute 'get'")
        if not isinstance(kwargs, dict):
            kwargs = {}
        return Query(kind, query, kwargs, self._shortened(time, kwargs.get("max_time_ms")))

    def answer(self, query: Query) -> bytes:
        """Return the body of the answer.

        Raises
        ------
        Refusal, NunciusError
            If there is none.
        """
        # Around everything: documents are read one by one, so that an answer that grows too large is never in memory.
        left = query.time.left_s()
        with self._archive._database.deadline(left), bounded(left, self._limits.memory_bytes):
            data = self._answers[query.type](query)
        # Put together once: an answer may be large.
        return b"".join([_DONE, *([] if data is None else [b',"data":', data]), b"}"])

    def _shortened(self, time: TimeLeft, most_ms: Any) -> TimeLeft:
        if most_ms is None:
            return time
        if not isinstance(most_ms, int) or isinstance(most_ms, bool) or most_ms < 1:
            raise wrong("ValueError", "max_time_ms must be int >= 1")
        time.shorten(most_ms / 1000)
        return time

    # The query types --------------------------------------------------------------------------------------------------

    def _find(self, query: Query) -> bytes:
        name = self._catalog(query)
        condition, projection = self._filter(query.query, required=True), self._projection(query, query.query)
        sort, skip, limit = self._range(query.kwargs)
        if name is None:
            return b"[]"
        found = self._archive.find(
            name,
            condition,
            projection=projection,
            sort=sort,
            skip=skip,
            limit=limit,
        )
        return self._each(query, found)

    def _find_one(self, query: Query) -> bytes | None:
        # Kowalski passes over the projection, sort and skip of this one.
        name, condition = self._catalog(query), self._filter(query.query, required=True)
        if name is None:
            return None
        found = self._archive.find_one(name, condition)
        return None if found is None else self._one(query, found)

    def _count(self, query: Query) -> bytes:
        name, condition = self._catalog(query), self._filter(query.query, required=True)
        count = 0 if name is None else self._archive.count(name, condition)
        return b"%d" % count

    def _estimated_count(self, query: Query) -> bytes:
        name = self._catalog(query)
        return b"%d" % (0 if name is None else self._archive.estimated_count(name))

    def _aggregate(self, query: Query) -> bytes:
        name = self._catalog(query)
        pipeline = query.query.get("pipeline")
        if isinstance(pipeline, str):
            pipeline = read_literal(pipeline, self._limits)
        stages = checks.check_pipeline_shape(pipeline)
        checks.check_safe(stages, self.opened(), self._limits)
        query.computes = True
        if name is None:
            return b"[]"
        found = self._archive.aggregate(name, _plain_ids(stages))
        return self._each(query, found)

    def _cone_search(self, query: Query) -> bytes:
        asked = query.query.get("object_coordinates")
        if not isinstance(asked, dict):
            raise invalid("object_coordinates must be specified")
        radius = angle_arcsec(
            asked.get("cone_search_radius"), asked.get("cone_search_unit"), "cone_search_radius"
        )
        positions = read_positions(asked.get("radec"), self._limits)

        def search(name: str, **options: Any) -> Iterable[Document]:
            found: Iterable[Document] = self._archive.cone_search(
                name,
                [*positions.values()],
                _text(radius),
                progress=False,
                **options,
            )
            return found

        return self._around(query, list(positions), radius, search)

    def _near(self, query: Query) -> bytes:
        asked = query.query
        unit = asked.get("distance_units", "rad")
        most = angle_arcsec(asked.get("max_distance", _ARCMIN_RAD), unit, "max_distance")
        least = angle_arcsec(asked.get("min_distance", 0), unit, "min_distance")
        positions = read_positions(asked.get("radec"), self._limits)

        def search(name: str, **options: Any) -> Iterable[Document]:
            found: Iterable[Document] = self._archive.near(
                name,
                [*positions.values()],
                _text(most),
                min_distance=_text(least),
                progress=False,
                **options,
            )
            return found

        return self._around(query, list(positions), most, search)

    def _skymap(self, query: Query) -> bytes:
        name, condition = self._catalog(query), self._filter(query.query, required=True)
        projection = self._projection(query, query.query)
        sort, skip, limit = self._range(query.kwargs)
        region = self._skymaps.region(query.query.get("skymap"))
        if name is None or name.endswith("_aux"):
            return b"[]"
        found = self._archive.region_search(
            name,
            region,
            filter=condition,
            projection=projection,
            sort=sort,
            skip=skip,
            limit=limit,
        )
        return self._each(query, found)

    def _info(self, query: Query) -> bytes:
        command = query.query.get("command")
        if command not in COMMANDS:
            raise wrong("KeyError", repr(f"command {str(command)[:80]} not in {COMMANDS}"))
        if command == "catalog_names":
            return encode(self.opened()[::-1])
        if command == "db_info":
            return encode(self._database_info())
        name = self._catalog(query)
        if command == "index_info":
            return encode({} if name is None else self._indexes(name))
        count = 0 if name is None else self._archive.estimated_count(name)
        return encode({"ns": f"nuncius.{query.catalogs[0]}", "count": count, "ok": 1.0})

    def _drop(self, query: Query) -> bytes:
        raise forbidden("this server opens its archive for reading and drops nothing")

    # Parts of them ----------------------------------------------------------------------------------------------------

    def _around(
        self, query: Query, names: list[str], radius_arcsec: float, search: Callable[..., Iterable[Document]]
    ) -> bytes:
        """Ask each catalog for all positions at once, and group what comes by position."""
        from nuncius.archives.language import Projection, sort_documents

        catalogs = query.query.get("catalogs")
        if not isinstance(catalogs, dict) or not catalogs:
            raise invalid("catalogs must be specified")
        sort, skip, limit = self._range(query.kwargs)
        opened = self.opened()
        parts = []
        for asked, wishes in catalogs.items():
            name = checks.check_name(asked)
            query.catalogs.append(name)
            if not isinstance(wishes, dict):
                raise wrong("AttributeError", f"{type(wishes).__name__!r} object has no attribute 'get'")
            condition, projection = self._filter(wishes), self._projection(query, wishes)
            groups: list[list[Document]] = [[] for _ in names]
            wanted = Wanted(Projection(projection), [field for field, _ in sort])
            # Histories have no positions: in MongoDB, too, nothing is near any.
            if names and name in opened and not name.endswith("_aux"):
                self._check_candidates(name, len(names), radius_arcsec)
                most = None if sort or limit is None else skip + limit
                for document in search(name, filter=condition, projection=wanted.fields, limit=most):
                    del document["separation_arcsec"]  # Kowalski gives none
                    groups[document.pop("input_index")].append(document)
            if sort:
                groups = [sort_documents(group, sort) if len(group) > 1 else group for group in groups]
            stop = None if limit is None else skip + limit
            texts = (self._each(query, map(wanted.strip, group[skip:stop])) for group in groups)
            listed = (encode(key) + b":" + text for key, text in zip(names, texts, strict=True))
            parts.append(encode(asked) + b":{" + b",".join(listed) + b"}")
        return b"{" + b",".join(parts) + b"}"

    def _check_candidates(self, name: str, positions: int, radius_arcsec: float) -> None:
        """Refuse cones that hold too much together, were the documents spread evenly over the sky."""
        fraction = math.sin(math.radians(radius_arcsec / 3600) / 2) ** 2
        expected = positions * fraction * self._archive.estimated_count(name)
        if expected > _MOST_CANDIDATES:
            raise wrong(
                "OperationFailure",
                f"about {expected:.2g} documents of {name} lie around these positions, more than {_MOST_CANDIDATES}; "
                "ask for fewer positions at once, or with a smaller radius",
            )

    def _each(self, query: Query, found: Iterable[Document]) -> bytes:
        parts = [b"["]
        for document in found:
            parts += (self._one(query, document), b",")
        parts[max(1, len(parts) - 1) :] = [b"]"]
        return b"".join(parts)

    def _one(self, query: Query, document: Document) -> bytes:
        """Write one document of an answer, within its limits."""
        check_time()
        if query.computes:
            checks.check_document(document, self._limits)
        text = encode(document)
        query.rows += 1
        query.bytes += len(text)
        if query.rows > self._limits.rows or query.bytes > self._limits.answer_bytes:
            raise wrong(
                "OperationFailure",
                f"the answer has more than {self._limits.rows} documents or {self._limits.answer_bytes} bytes; "
                "ask for fewer fields, for fewer positions, or with skip and limit",
            )
        query.time.left_s()
        return text

    def _catalog(self, query: Query) -> str | None:
        """Return the catalog that is asked; None, for no documents, if there is none of that name."""
        name = checks.check_name(query.query.get("catalog"))
        query.catalogs.append(name)
        return name if name in self.opened() else None

    def _filter(self, holder: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
        condition = self._value(holder.get("filter"))
        if condition is None and not required:
            return {}
        if not isinstance(condition, dict):
            raise invalid("Unsupported filter specification")
        checks.check_safe(condition, self.opened(), self._limits)
        plain: dict[str, Any] = _plain_ids(condition)
        return plain

    def _projection(self, query: Query, holder: Mapping[str, Any]) -> dict[str, Any] | None:
        projection = self._value(holder.get("projection"))
        if not projection:
            return None
        if not isinstance(projection, dict):
            raise invalid("Unsupported projection specification")
        checks.check_safe(projection, self.opened(), self._limits)
        query.computes |= any(isinstance(value, (str, dict, list)) for value in projection.values())
        return projection

    def _value(self, value: Any) -> Any:
        return read_literal(value, self._limits) if isinstance(value, str) else value

    def _range(self, kwargs: Mapping[str, Any]) -> tuple[list[tuple[str, int]], int, int | None]:
        from nuncius.archives.language import check_sort

        numbers = []
        for name in ("skip", "limit"):
            value = kwargs.get(name) or 0
            if not isinstance(value, int) or isinstance(value, bool):
                raise wrong("TypeError", f"{name} must be an instance of int")
            if not -(2**31) < value < 2**31:
                raise wrong("OverflowError", f"{name} does not fit into 32 bits")
            numbers.append(value)
        skip, limit = numbers
        if skip < 0:
            raise wrong("ValueError", "skip must be >= 0")
        # In MongoDB a limit of 0 is none, and a negative one is its amount in one batch.
        return check_sort(kwargs.get("sort") or None), skip, abs(limit) or None

    def _indexes(self, name: str) -> dict[str, Any]:
        """Return the indexes of a catalog as MongoDB describes them."""
        keys: list[list[tuple[str, int | str]]] = [[("_id", 1)]]
        if not name.endswith("_aux"):
            keys.append([("coordinates.radec_geojson", "2dsphere"), ("_id", 1)])
        keys += [[(field, 1)] for field in self._archive.indexes(name)]
        return {"_".join(f"{field}_{kind}" for field, kind in key): {"key": key, "v": 2} for key in keys}

    def _database_info(self) -> dict[str, Any]:
        opened = self.opened()
        return {
            "db": "nuncius",
            "collections": len(opened),
            "objects": sum(self._archive.estimated_count(name) for name in opened),
            "fsUsedSize": self._archive.info()["bytes"],
            "ok": 1.0,
        }


def _text(arcsec: float) -> str:
    return f"{arcsec!r} arcsec"


def _plain_ids(value: Any) -> Any:
    """Read ids as the text that the archive keeps, so that what an answer gave can be asked for again."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, item),) = value.items()
            if name in {"$oid", "$toObjectId"} and isinstance(item, str):
                return item
        return {
            name: "string" if name == "$type" and item == "objectId" else _plain_ids(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain_ids(item) for item in value]
    return value
