"""What ALeRCE has of one object, as operations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nuncius._core.operations import Gather
from nuncius.alerts.lightcurve import LightCurve
from nuncius.alerts.surveys.base import identifier, number
from nuncius.alerts.times import JD_OF_MJD_0, possible_mjd
from nuncius.archives.alerce.service import object_document
from nuncius.archives.paged.rest import part
from nuncius.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuncius._core.operations import Deadline, Operation
    from nuncius.alerts.cutouts import Cutout, Cutouts
    from nuncius.alerts.lightcurve import Point
    from nuncius.alerts.surveys import Survey
    from nuncius.archives.alerce.service import AlerceService
    from nuncius.archives.language import Document

_IMAGES = ("science", "template", "difference")
_FITS = (b"\x1f\x8b", b"SIMPLE  =")  # how an image begins: packed or plain


def object_(server: AlerceService, oid: str, deadline: Deadline) -> Operation[Document]:
    """Return an object."""
    found = yield from server.json(
        f"{server.objects}/{part(_name(oid))}", deadline, what=f"the object {oid!r}"
    )
    if not isinstance(found, dict) or found.get("oid") != oid:
        raise server.strange(found, f"the object {oid!r}")
    return object_document(found)


def of_object(server: AlerceService, oid: str, kind: str, deadline: Deadline) -> Operation[list[Document]]:
    """Return the rows of something that an object has: detections, magstats and their like."""
    path = f"{server.objects}/{part(_name(oid))}/{kind}"
    return (yield from server.rows(path, deadline, f"the {kind} of {oid!r}"))


def forced_photometry(server: AlerceService, oid: str, deadline: Deadline) -> Operation[list[Document]]:
    """Return forced photometry; what the server keeps apart stands beside the rest."""
    rows = yield from server.rows(
        f"{server.forced}/{part(_name(oid))}", deadline, f"the forced photometry of {oid!r}"
    )
    return [_joined(row) for row in rows]


def light_curve(
    server: AlerceService, oid: str, deadline: Deadline, *, forced: bool
) -> Operation[LightCurve]:
    """Return the light curve of an object."""
    questions: list[Operation[Any]] = [
        server.json(f"{server.objects}/{part(_name(oid))}/lightcurve", deadline, what=f"the object {oid!r}")
    ]
    if forced:
        questions.append(forced_photometry(server, oid, deadline))
    outcomes = yield Gather(questions, limit=2)
    answers = [outcome.result() for outcome in outcomes]
    whole = answers[0]
    if not isinstance(whole, dict):
        raise server.strange(whole, f"the light curve of {oid!r}")
    points = [
        point
        for name in ("detections", "non_detections")
        for row in server.listed(whole.get(name) or [], f"the {name} of {oid!r}")
        if (point := _point("prv_candidates", row)) is not None
    ]
    if forced:
        points += [point for row in answers[1] if (point := _forced_point(row)) is not None]
    return LightCurve(points)


def stamps(
    server: AlerceService, oid: str, candid: int | str | None, deadline: Deadline
) -> Operation[Cutouts]:
    """Return the three images of an alert, fetched side by side; of the first one with images by default."""
    from nuncius.alerts.cutouts import Cutouts

    if candid is None:
        candid = yield from _first_with_images(server, oid, deadline)
    outcomes = yield Gather([_stamp(server, oid, candid, kind, deadline) for kind in _IMAGES], limit=3)
    return Cutouts(*(outcome.result() for outcome in outcomes))


def _stamp(
    server: AlerceService, oid: str, candid: int | str, kind: str, deadline: Deadline
) -> Operation[Cutout]:
    from nuncius.alerts.cutouts import Cutout

    params = {"oid": _name(oid), "candid": str(candid), "type": kind, "format": "fits"}
    response = yield from server.get(server.stamps, deadline, params)
    what = f"the {kind} image of the alert {candid} of {oid!r}"
    if response.status != 200:
        raise server.failure(response, None, what)
    if not response.body.startswith(_FITS):  # a page of a proxy comes with status 200 as well
        raise server.strange(f"{len(response.body)} bytes that are no FITS file", what)
    return Cutout(kind, response.body)


def _first_with_images(server: AlerceService, oid: str, deadline: Deadline) -> Operation[int | str]:
    rows = yield from of_object(server, oid, "detections", deadline)
    found = [
        (when, candid)
        for row in rows
        if row.get("has_stamp") is True
        and (candid := identifier(row.get("candid"))) is not None
        and (when := number(row.get("mjd"))) is not None
    ]
    if not found:
        raise NotFoundError(
            f"{server.base} has no images of {oid!r}", service=server.service, url=server.base, position=oid
        )
    return min(found, key=lambda pair: pair[0])[1]


# Points of light curves -----------------------------------------------------------------------------------------------


def _ztf() -> Survey:
    from nuncius.alerts.surveys import KNOWN

    return next(survey for survey in KNOWN if survey.name == "ztf")


def _point(list_name: str, row: Mapping[str, Any]) -> Point | None:
    """Read a row as ZTF's own packets are read, but for the time, which is an MJD here."""
    mjd = possible_mjd(number(row.get("mjd")))
    jd = None if mjd is None else mjd + JD_OF_MJD_0
    point = _ztf().history_point(list_name, {**row, "jd": jd})
    if point is None:
        return None
    # A candid comes as a text, because of its 19 digits; in packets it is a number.
    alert_id = point.alert_id
    whole = int(alert_id) if isinstance(alert_id, str) and alert_id.isdecimal() else alert_id
    return replace(point, mjd=mjd, alert_id=whole)


def _forced_point(row: Mapping[str, Any]) -> Point | None:
    """Read forced photometry: by its flux, else by the magnitude that ALeRCE made of it."""
    point = _point("fp_hists", row)
    if point is not None or row.get("forcediffimflux") is not None:
        return point
    point = _point("prv_candidates", {**row, "magpsf": row.get("mag"), "sigmapsf": row.get("e_mag")})
    return (
        None if point is None or point.kind != "detection" else replace(point, kind="forced", alert_id=None)
    )


def _joined(row: Document) -> Document:
    extra = row.get("extra_fields")
    if not isinstance(extra, dict):
        return row
    return {**{name: value for name, value in row.items() if name != "extra_fields"}, **extra}


def _name(oid: Any) -> str:
    if not isinstance(oid, str) or not oid.strip(". "):
        raise ConfigurationError(f"oid={oid!r} is no name of an object, such as 'ZTF18abbuksn'")
    return oid
