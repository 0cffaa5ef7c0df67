"""What ANTARES has besides a list of loci, as operations."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from nuncius._core.operations import Gather
from nuncius.archives.antares.filters import search_of
from nuncius.archives.antares.service import NEWEST, LocusListing, locus_document
from nuncius.archives.backend import Failure
from nuncius.archives.paged.rest import part
from nuncius.errors import ConfigurationError, FilterError, NotFoundError, PartialResultError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table

    from nuncius._core.operations import Deadline, Operation, Response
    from nuncius.alerts.cutouts import Cutout, Cutouts
    from nuncius.archives.antares.service import AntaresService
    from nuncius.archives.language import Document

ZTF_ID = "properties.ztf_object_id"
LSST_ID = "properties.survey.lsst.dia_object_id"
LSST_SOLAR_SYSTEM_ID = "properties.survey.lsst.ss_object_id"
_AT_ONCE = 8
_NAMES_IN_A_URL = 50
_MOST_SAMPLES = 50
_IMAGES = ("science", "template", "difference")


def listing(server: AntaresService, query: Mapping[str, Any] | None, *, sort: str, size: int) -> LocusListing:
    """Begin a listing of the loci that meet a search in Elasticsearch's words."""
    search = dict(query or {})
    if set(search) - {"query"}:
        raise FilterError(
            f"a search has one key, 'query', and nothing beside it; not {', '.join(map(repr, sorted(search)))}",
            position="query",
        )
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigurationError(f"page_size={size!r} must be a whole number from 1 on")
    return LocusListing(server, search, sort=sort, size=size)


def locus(server: AntaresService, locus_id: str, deadline: Deadline) -> Operation[Document]:
    """Return a locus by its id, with its light curve.

    The properties that ANTARES and its users gave it stand together in `properties`, as in a listing.
    """
    what = f"the locus {locus_id!r}"
    found = yield from server.ask_one(f"loci/{part(_named(locus_id, 'locus_id'))}", deadline, what)
    properties: dict[str, Any] = {}
    for name in ("internal_properties", "user_properties"):
        value = found.get(name)
        if value is not None and not isinstance(value, dict):  # null is what it has for none
            raise server.strange(value, f"the {name} of {what}")
        properties |= value or {}
    document = locus_document(server, {**found, "properties": properties})
    if document["_id"] != locus_id:
        raise server.strange(f"the locus {document['_id']!r}", what)
    return document


def loci(
    server: AntaresService, ids: Sequence[str], deadline: Deadline
) -> Operation[tuple[list[Document], list[Failure]]]:
    """Return many loci side by side, in the order asked, and those that failed."""
    names = [_named(name, "an id") for name in ids]
    unique = list(dict.fromkeys(names))
    outcomes = yield Gather([locus(server, name, deadline) for name in unique], limit=_AT_ONCE)
    known = dict(zip(unique, outcomes, strict=True))
    documents, failures = [], []
    for index, name in enumerate(names):
        error = known[name].error
        if error is None:
            documents.append(dict(known[name].value))
        else:
            failures.append(Failure([index], error))
    return documents, failures


def incomplete(server: AntaresService, ids: Sequence[str], failures: Sequence[Failure]) -> PartialResultError:
    """Return the error that names the loci that did not come."""
    names = [ids[failure.indexes[0]] for failure in failures]
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return PartialResultError(
        f"{server.base}: {len(names)} of {len(ids)} loci did not come: {shown}. The first: {failures[0].error}. The "
        "others are in the error's `result`; allow_partial=True returns them without an error",
        service=server.service,
        url=server.base,
    )


def locus_by(server: AntaresService, path: str, value: Any, deadline: Deadline) -> Operation[Document]:
    """Return the locus of a survey's object, as a listing has it."""
    name = _named(value, path)
    found = yield from listing(
        server, search_of([{"term": {path: name}}]), sort=NEWEST, size=1
    ).page(deadline)  # fmt: skip
    if not found:
        raise NotFoundError(
            f"{server.base} has no locus with {path} {name!r}",
            service=server.service,
            url=server.base,
            position=name,
        )
    if name not in _texts_at(found[0], path):
        raise server.strange(f"the locus {found[0]['_id']!r}, which has another {path}", f"that of {name!r}")
    return found[0]


def alerts(server: AntaresService, locus_id: str, deadline: Deadline) -> Operation[list[Document]]:
    """Return the alerts of a locus."""
    path = f"loci/{part(_named(locus_id, 'locus_id'))}/alerts"
    return (yield from server.ask_many(path, deadline, f"the alerts of {locus_id!r}"))


def catalog_matches(server: AntaresService, locus_id: str, deadline: Deadline) -> Operation[list[Document]]:
    """Return the objects of catalogues at a locus."""
    path = f"loci/{part(_named(locus_id, 'locus_id'))}/catalog-matches"
    return (yield from server.ask_many(path, deadline, f"the catalogue matches of {locus_id!r}"))


def light_curve(server: AntaresService, locus_id: str, deadline: Deadline) -> Operation[Table]:
    """Return a locus' light curve with all the columns that it has; they are named by the first line."""
    from astropy.table import MaskedColumn, Table

    from nuncius.archives.antares.tables import columns_of_csv
    from nuncius.archives.results import _column

    found = yield from locus(server, locus_id, deadline)
    text = found.get("lightcurve") or ""
    if not isinstance(text, str):
        raise server.strange(text, f"the light curve of {locus_id!r} as a text")
    try:
        columns = columns_of_csv(text)
    except ValueError as error:
        raise server.strange(f"no table ({error})", f"the light curve of {locus_id!r}") from error
    table = Table(masked=True)
    for name, values in columns.items():
        table[name] = MaskedColumn(*_column(values))
    return table


def catalog_search(server: AntaresService, position: Any, deadline: Deadline) -> Operation[list[Document]]:
    """Return the objects of catalogues at a position."""
    from nuncius.sky import to_positions

    ra, dec, single = to_positions(position)
    if not single:
        raise ConfigurationError("catalog_search takes one position; ask for each of several")
    path = f"catalog_search/{float(ra[0])!r}/{float(dec[0])!r}"
    return (yield from server.ask_many(path, deadline, "objects of catalogues"))


def catalog_samples(server: AntaresService, n: int, deadline: Deadline) -> Operation[list[Document]]:
    """Return some objects of each catalogue."""
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= _MOST_SAMPLES:
        raise ConfigurationError(f"n={n!r} is a whole number from 1 to {_MOST_SAMPLES}")
    return (yield from server.ask_many("catalog_samples", deadline, "samples of catalogues", {"n": n}))


# Images ---------------------------------------------------------------------------------------------------------------


def thumbnails(server: AntaresService, alert_id: Any, deadline: Deadline) -> Operation[Cutouts]:
    """Return the three images of an alert, fetched side by side."""
    from nuncius.alerts.cutouts import Cutouts

    what = f"the thumbnails of the alert {alert_id!r}"
    path = f"alerts/{part(_named(alert_id, 'alert_id'))}/thumbnails"
    listed = yield from server.ask_many(path, deadline, what)
    wanted: dict[str, Document] = {}
    for item in listed:
        if item.get("thumbnail_type") in _IMAGES and isinstance(item.get("src"), str):
            wanted.setdefault(item["thumbnail_type"], item)
    if not wanted:
        raise NotFoundError(
            f"{server.base} does not have {what}",
            service=server.service,
            url=server.base,
            position=str(alert_id),
        )
    outcomes = yield Gather([_image(server, kind, item, deadline) for kind, item in wanted.items()], limit=3)
    return Cutouts(**{kind: outcome.result() for kind, outcome in zip(wanted, outcomes, strict=True)})


def _image(server: AntaresService, kind: str, item: Document, deadline: Deadline) -> Operation[Cutout]:
    from nuncius.alerts.cutouts import Cutout

    url = urljoin(f"{server.base}/", item["src"])
    if not url.startswith(("https://", "http://")):
        raise server.strange(f"{url!r} as the place of an image", "an address")
    response = yield from server.get(url, deadline)
    if response.status != 200 or not response.body:
        raise server.failure(response, None, f"the {kind} image {url}")
    return Cutout(kind, response.body, _file_name(response) or str(item.get("id") or kind))


def _file_name(response: Response) -> str | None:
    """Return the name that a server gives a file, without any folder."""
    from email.message import Message

    header = Message()
    header["content-disposition"] = response.headers.get("content-disposition", "")
    name = (header.get_filename() or "").replace("\\", "/").rpartition("/")[2]
    return name if name.strip(".") and name.isprintable() else None


# Gravitational waves --------------------------------------------------------------------------------------------------


def grav_wave_notice(
    server: AntaresService, gracedb_id: str, time: Any, deadline: Deadline
) -> Operation[Document]:
    """Return the latest notice of an event, or that of a time."""
    which = "latest" if time is None else part(_moment(time))
    what = f"a notice of {gracedb_id!r}" + ("" if time is None else f" of {time}")
    path = f"grav_wave_notice/{part(_named(gracedb_id, 'gracedb_id'))}/{which}"
    return _with_map(server, (yield from server.ask_one(path, deadline, what)))


def grav_wave_notices(
    server: AntaresService, ids: Sequence[str], deadline: Deadline
) -> Operation[list[Document]]:
    """Return the latest notices of events, in the order asked."""
    names = [_named(name, "an id") for name in ids]
    notices: dict[str, Document] = {}
    for begin in range(0, len(names), _NAMES_IN_A_URL):
        some = list(dict.fromkeys(names[begin : begin + _NAMES_IN_A_URL]))
        found = yield from server.ask_many("grav_wave_notice/latest", deadline, "notices", {"ids": some})
        notices |= {str(notice.get("gracedb_id")): _with_map(server, notice) for notice in found}
    missing = [name for name in names if name not in notices]
    if missing:
        raise NotFoundError(
            f"{server.base} has no notice of {', '.join(missing[:10])}{', …' if len(missing) > 10 else ''}",
            service=server.service,
            url=server.base,
            position=missing[0],
        )
    return [notices[name] for name in names]


def _with_map(server: AntaresService, notice: Document) -> Document:
    """Add the sky map as the FITS file that it is."""
    text = notice.get("skymap_base64")
    if not text:
        return {**notice, "skymap": None}
    try:
        return {**notice, "skymap": base64.b64decode(text, validate=True)}
    except (binascii.Error, ValueError, TypeError) as error:
        raise server.strange(f"a sky map that is no base64 ({error})", "a sky map") from error


def _moment(value: Any) -> str:
    """Write a time as ANTARES has it in its paths. A text and a datetime stay as they are."""
    if hasattr(value, "to_datetime") and hasattr(value, "scale"):
        value = value.utc.to_datetime()
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"time={value!r} is no time; give a datetime, a Time or a text such as 2026-11-20T01:02:03"
        ) from error
    return str(value)


def _named(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip(". "):
        raise ConfigurationError(f"{what}={value!r} is no name")
    return str(value)


def _texts_at(document: Document, path: str) -> set[str]:
    """Return what stands at a path, as texts: ids come as numbers, as texts and in lists."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return {str(item) for item in (value if isinstance(value, list) else [value])}
