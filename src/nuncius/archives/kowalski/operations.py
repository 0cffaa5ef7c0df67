"""What only Kowalski has, as operations: cutouts, sky maps, and calls in its own form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nuncius._core.operations import Gather
from nuncius.archives.kowalski.service import SERVICE
from nuncius.archives.kowalski.wire import plain_expression, plain_filter, to_body
from nuncius.errors import ConfigurationError, FilterError, ForbiddenError, LoginError, NunciusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius._core.operations import Deadline, Operation
    from nuncius.alerts.cutouts import Cutouts
    from nuncius.archives.kowalski.backend import KowalskiBackend
    from nuncius.archives.kowalski.service import KowalskiService
    from nuncius.archives.language import Document, Projection

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})
_KINDS = ("science", "template", "difference")


def ping(server: KowalskiService, deadline: Deadline) -> Operation[bool]:
    """Tell whether the server answers and knows us."""
    try:
        yield from server.request("GET", "/", deadline, reads=True)
    except LoginError:
        raise
    except NunciusError:
        return False
    return True


def query(server: KowalskiService, body: Mapping[str, Any], deadline: Deadline) -> Operation[Any]:
    """Send a query in Kowalski's own form."""
    if not isinstance(body, dict) or not isinstance(body.get("query_type"), str):
        raise FilterError(
            "a query in Kowalski's form is a mapping with query_type and query", position="query"
        )
    kind, asked = body["query_type"], dict(body.get("query") or {})
    if kind == "drop":
        raise ForbiddenError(
            "a query of type drop deletes a whole catalog; use drop(catalog, allow_write=True)"
        )
    if kind == "aggregate" and isinstance(asked.get("pipeline"), list):
        from nuncius.archives.language import check_pipeline

        asked["pipeline"] = plain_expression(check_pipeline(asked["pipeline"]))
    if isinstance(asked.get("filter"), dict):
        from nuncius.archives.language import check_filter

        asked["filter"] = plain_filter(check_filter(asked["filter"]))
    return (yield from server.ask(kind, asked, deadline, options=body.get("kwargs")))


def api(
    server: KowalskiService, method: str, endpoint: str, data: Mapping[str, Any] | None, deadline: Deadline
) -> Operation[dict[str, Any]]:
    """Call any address of the interface."""
    verb = str(method).upper()
    if verb not in _METHODS:
        raise ConfigurationError(f"method={method!r} is none of {', '.join(sorted(_METHODS)).lower()}")
    reads = verb in {"GET", "HEAD"}
    body = None if reads or data is None else to_body(data)
    return (
        yield from server.request(
            verb, endpoint, deadline, body=body, params=data if reads else None, reads=reads
        )
    )


def drop(backend: KowalskiBackend, catalog: str, deadline: Deadline, *, allow_write: bool) -> Operation[None]:
    """Delete a catalog."""
    if not allow_write:
        raise ForbiddenError(
            f"this deletes the whole catalog {catalog!r} of {backend.url} for everybody; say allow_write=True if that is "
            "meant",
            service=SERVICE,
            url=backend.url,
        )
    yield from backend.server.ask(
        "drop", {"catalog": (yield from backend.known(catalog, deadline))}, deadline
    )


def catalog_info(backend: KowalskiBackend, catalog: str, deadline: Deadline) -> Operation[dict[str, Any]]:
    """Return the statistics of a catalog."""
    asked = {"command": "catalog_info", "catalog": (yield from backend.known(catalog, deadline))}
    found = yield from backend.server.ask("info", asked, deadline)
    return found if isinstance(found, dict) else {"catalog_info": found}


def cutout(
    server: KowalskiService,
    survey: str,
    candid: int,
    kind: str,
    form: str,
    drawn: Mapping[str, Any],
    deadline: Deadline,
) -> Operation[bytes]:
    """Get a cutout as a file."""
    path = f"/api/cutouts/{part(survey)}/{int(candid)}/{part(kind)}/{part(form)}"
    params = {name: value for name, value in drawn.items() if value is not None}
    return (yield from server.fetch(path, deadline, params or None))


def cutouts(server: KowalskiService, survey: str, candid: int, deadline: Deadline) -> Operation[Cutouts]:
    """Get the three cutouts of an alert."""
    from nuncius.alerts.cutouts import Cutout, Cutouts

    files = yield Gather(
        [cutout(server, survey, candid, kind, "fits", {}, deadline) for kind in _KINDS], limit=3
    )
    return Cutouts(*(Cutout(kind, file.result()) for kind, file in zip(_KINDS, files, strict=True)))


def add_skymap(
    server: KowalskiService, skymap: Mapping[str, Any], deadline: Deadline
) -> Operation[dict[str, Any]]:
    """Give the server a sky map."""
    body = {**skymap, **({"dateobs": _dateobs(skymap["dateobs"])} if "dateobs" in skymap else {})}
    return (yield from server.request("PUT", "/api/skymap", deadline, body=to_body(body)))


def skymap(
    server: KowalskiService, name: str, dateobs: Any, aliases: list[str] | None, deadline: Deadline
) -> Operation[dict[str, Any]]:
    """Return a sky map."""
    params = _which(name, dateobs, aliases)
    answer = yield from server.request("GET", "/api/skymap", deadline, params=params, reads=True)
    found: dict[str, Any] = answer.get("data", {})
    return found


def remove_skymap(
    server: KowalskiService, name: str, dateobs: Any, aliases: list[str] | None, deadline: Deadline
) -> Operation[None]:
    """Delete a sky map."""
    yield from server.request("DELETE", "/api/skymap", deadline, body=to_body(_which(name, dateobs, aliases)))


def skymap_search(
    backend: KowalskiBackend,
    catalog: str,
    name: str,
    dateobs: Any,
    aliases: list[str] | None,
    contour: int,
    condition: Mapping[str, Any],
    projection: Projection,
    order: list[tuple[str, int]],
    skip: int,
    limit: int | None,
    deadline: Deadline,
) -> Operation[list[Document]]:
    """Find documents within a contour of a sky map of the server.

    The server would apply skip, limit and sort to the look-up of the sky map too: they are applied here.
    """
    from itertools import islice

    from nuncius.archives.language import sort_documents
    from nuncius.archives.wanted import Wanted

    wanted = Wanted(projection, [field for field, _ in order])
    asked: dict[str, Any] = {
        "catalog": (yield from backend.known(catalog, deadline)),
        "filter": plain_filter(condition),
        "skymap": {**_which(name, dateobs, aliases), "contour": contour},
    }
    if wanted.fields is not None:
        asked["projection"] = plain_expression(wanted.fields, "projection")
    found = yield from backend.server.ask("skymap", asked, deadline)
    ordered = sort_documents(list(found or []), order)
    return [
        wanted.strip(document) for document in islice(ordered, skip, None if limit is None else skip + limit)
    ]


def part(value: Any) -> str:
    """Write a value as one part of a path, whatever is in it."""
    return quote(str(value), safe="")


def _which(name: str, dateobs: Any, aliases: list[str] | None) -> dict[str, Any]:
    if dateobs is None and aliases is None:
        raise ConfigurationError("which event? give dateobs= or aliases=")
    which: dict[str, Any] = {"localization_name": name}
    if dateobs is not None:
        which["dateobs"] = _dateobs(dateobs)
    if aliases is not None:
        which["aliases"] = aliases
    return which


def _dateobs(value: Any) -> str:
    """Write a time as Kowalski wants it: UTC without a zone."""
    if hasattr(value, "to_datetime") and hasattr(value, "scale"):
        value = value.utc.to_datetime(timezone=UTC)
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        value = value.isoformat()
    return str(value)
