"""Questions to ANTARES' REST interface, under the names of antares-client 2.0; see `nuncius.open_archive` for more.

The interface is at ``ANTARES_API_BASE_URL``, the public one by default. What is not there is None or empty; everything
else that goes wrong is an `AntaresException`.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nuncius.archives import open_archive
from nuncius.compat.antares_client.exceptions import (
    AntaresConfigurationError,
    AntaresNotFoundError,
    AntaresServerError,
    translating,
)
from nuncius.compat.antares_client.models import Alert, GravWaveNotice, GravWaveNoticeTypes, Locus
from nuncius.compat.antares_client.places import base_url, timeout_s_of
from nuncius.compat.antares_client.thumbnails import fetch_images
from nuncius.errors import NotFoundError, NunciusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuncius.archives.antares import AntaresArchive

_MOST_RANDOM = 1000
_LARGEST_RADIUS_DEG = 1.0


# Loci -----------------------------------------------------------------------------------------------------------------


def search(query: Mapping[str, Any], limit: int | None = None, *, page_size: int = 100) -> Iterator[Locus]:
    """Search loci with a query in Elasticsearch's words; those with the newest alerts come first.

    Parameters
    ----------
    query : dict
        With the key ``query`` and no other.
    limit : int, optional
        The most loci; all by default. (In antares-client it is the size of a page.)
    page_size : int
        How many are asked for at a time; the next page is fetched while you work on one.

    Yields
    ------
    Locus

    Examples
    --------
    >>> nuclear = {"query": {"bool": {"filter": {"term": {"tags": "nuclear_transient"}}}}}
    >>> names = [locus.locus_id for locus in search(nuclear, limit=20)]  # doctest: +SKIP
    """
    if not isinstance(query, dict):
        raise AntaresConfigurationError("`query` must be a dictionary")
    return _found(query, limit, page_size)


def cone_search(center: Any, radius: Any) -> Iterator[Locus]:
    """Search loci around a position; those with the newest alerts come first.

    Parameters
    ----------
    center : SkyCoord
        One position.
    radius : Angle
        At most 1 degree.
    """
    from astropy.coordinates import Angle, SkyCoord

    if not isinstance(center, SkyCoord) or not center.isscalar:
        raise AntaresConfigurationError("`center` must be one astropy.coordinates.SkyCoord")
    if not isinstance(radius, Angle) or not 0 <= radius.degree <= _LARGEST_RADIUS_DEG:
        raise AntaresConfigurationError("`radius` must be an astropy.coordinates.Angle of at most 1 degree")
    place = {
        "radius": f"{radius.degree:.10f} degree",
        "location": center.icrs.to_string("hmsdms", precision=6),
    }
    return search({"query": {"bool": {"filter": {"sky_distance": place}}}})


def get_by_id(locus_id: str) -> Locus | None:
    """Return a locus by its name, with its light curve; None if there is none."""
    with _asking() as archive:
        try:
            document = archive.locus(locus_id)
        except NotFoundError:
            return None
    return _locus(document)


def get_by_ztf_object_id(ztf_object_id: str) -> Locus | None:
    """Return the locus of an object of ZTF, such as ``"ZTF20aafqubg"``; None if there is none."""
    return _by("ztf_object_id", "locus_by_ztf_id", ztf_object_id)


def get_by_lsst_dia_object_id(lsst_object_id: str) -> Locus | None:
    """Return the locus of an object of LSST by its `diaObjectId`; None if there is none."""
    return _by("lsst_object_id", "locus_by_lsst_id", lsst_object_id)


def get_by_lsst_ss_object_id(ss_object_id: str) -> Locus | None:
    """Return the locus of a solar-system object of LSST by its `ssObjectId`; None if there is none."""
    return _by("ss_object_id", "locus_by_lsst_ss_id", ss_object_id)


def get_random_loci(n: int) -> list[Locus]:
    """Return `n` loci, at most 1000. They are those with the newest alerts, as antares-client has it."""
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= _MOST_RANDOM:
        raise AntaresConfigurationError(f"`n` must be an integer from 0 to {_MOST_RANDOM}")
    return list(search({}, limit=n)) if n else []


def get_random_locus() -> Locus:
    """Return a locus, that with the newest alert."""
    found = get_random_loci(1)
    if not found:
        raise AntaresNotFoundError("ANTARES has no locus", service="antares")
    return found[0]


def get_random_locus_ids(n: int) -> list[str]:
    """Return the names of `n` loci; see `get_random_loci`."""
    return [locus.locus_id or "" for locus in get_random_loci(n)]


def get_random_locus_id() -> str:
    """Return the name of a locus; see `get_random_locus`."""
    return get_random_locus().locus_id or ""


def get_available_tags() -> list[str]:
    """Return the names of all tags."""
    with _asking() as archive:
        return archive.tags()


# What belongs to a locus ----------------------------------------------------------------------------------------------


def get_locus_alerts(locus_id: str) -> list[Alert]:
    """Return the alerts of a locus, and its upper limits."""
    with _asking() as archive:
        return [
            Alert(
                item["id"],
                item["mjd"],
                item.get("properties") or {},
                _time(item.get("created_at")),
                item.get("grav_wave_events"),
            )
            for item in archive.alerts(locus_id)
        ]


def get_locus_catalog_matches(locus_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of catalogs at a locus, by catalog."""
    with _asking() as archive:
        return _by_catalog(archive.catalog_matches(locus_id))


def get_thumbnails(alert_id: int | str) -> dict[str, dict[str, Any]]:
    """Return the images of an alert, fetched side by side.

    Returns
    -------
    dict
        For ``template``, ``science`` and ``difference`` a dict with `alert_id`, `id`, `type`, `blob` (a gzipped FITS file),
        `file_name` and `url`; empty if the alert is not there or has none.
    """
    try:
        return fetch_images(alert_id)
    except AntaresNotFoundError:
        return {}


# Catalogs -------------------------------------------------------------------------------------------------------------


def get_catalog_samples(n: int = 5) -> dict[str, list[dict[str, Any]]]:
    """Return `n` objects (1 to 50) of each catalog, by catalog."""
    with _asking() as archive:
        return _by_catalog(archive.catalog_samples(n))


def catalog_search(ra: float, dec: float) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of catalogs at a position in ICRS degrees, by catalog."""
    with _asking() as archive:
        return _by_catalog(archive.catalog_search((ra, dec)))


# Gravitational waves --------------------------------------------------------------------------------------------------


def get_latest_grav_wave_notice(gracedb_id: str) -> GravWaveNotice | None:
    """Return the latest notice of an event, such as ``"S230518h"``; None if there is none."""
    return _notice_of(gracedb_id, None)


def get_grav_wave_notice(gracedb_id: str, notice_datetime: datetime) -> GravWaveNotice | None:
    """Return the notice of an event that was sent at a time; None if there is none."""
    if not isinstance(notice_datetime, datetime):
        raise AntaresConfigurationError("`notice_datetime` must be a datetime")
    return _notice_of(gracedb_id, notice_datetime)


def get_multiple_grav_wave_notices(ids: Sequence[str]) -> list[GravWaveNotice]:
    """Return the latest notices of several events, in the order asked.

    Raises
    ------
    AntaresNotFoundError
        If there is none of an event; the message names all of them.
    """
    if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids):
        raise AntaresConfigurationError("`ids` must be a list of strings, and not empty")
    with _asking() as archive:
        return [_notice(document) for document in archive.grav_wave_notices(ids)]


# Parts ----------------------------------------------------------------------------------------------------------------


@contextmanager
def _asking() -> Iterator[AntaresArchive]:
    url = base_url().removeprefix("antares+")
    with translating():
        archive: Any = open_archive(f"antares+{url}", timeout_s=timeout_s_of())
        with archive:
            try:
                yield archive
            except NunciusError:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise AntaresServerError(
                    f"{url} answers something else than was asked for ({type(error).__name__}: {error}); is it an ANTARES "
                    "server?",
                    service="antares",
                    url=url,
                ) from error


def _found(query: Mapping[str, Any], limit: int | None, page_size: int) -> Iterator[Locus]:
    with _asking() as archive:
        for document in archive.search(query, limit=limit, page_size=page_size):
            yield _locus(document)


def _by(name: str, method: str, value: str) -> Locus | None:
    if not isinstance(value, str):
        raise AntaresConfigurationError(f"`{name}` must be a string")
    with _asking() as archive:
        try:
            document = getattr(archive, method)(value)
        except NotFoundError:
            return None
    return _locus(document)


def _locus(document: Mapping[str, Any]) -> Locus:
    return Locus(
        document["locus_id"],
        document.get("ra"),
        document.get("dec"),
        document.get("properties") or {},
        list(document.get("tags") or []),
        list(document.get("catalogs") or []),
        grav_wave_events=list(document.get("grav_wave_events") or []),
        lightcurve_csv=document.get("lightcurve"),
    )


def _by_catalog(items: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        found.setdefault(item["catalog_name"], []).append(item["properties"])
    return found


def _notice_of(gracedb_id: str, when: datetime | None) -> GravWaveNotice | None:
    if not isinstance(gracedb_id, str):
        raise AntaresConfigurationError("`gracedb_id` must be a string")
    with _asking() as archive:
        try:
            return _notice(archive.grav_wave_notice(gracedb_id, when))
        except NotFoundError:
            return None


def _notice(document: Mapping[str, Any]) -> GravWaveNotice:
    kind = document["notice_type"]
    return GravWaveNotice(
        gracedb_id=document["gracedb_id"],
        notice_type=GravWaveNoticeTypes(kind) if kind in set(GravWaveNoticeTypes) else kind,
        notice_datetime=datetime.fromisoformat(document["notice_datetime"]),
        id=document.get("id"),
        event_datetime=_time(document.get("event_datetime")),
        false_alarm_rate=document.get("false_alarm_rate"),
        skymap_base64=document.get("skymap_base64"),
        external_coinc=document.get("external_coinc"),
        full_notice=document.get("full_notice"),
        version_id=document.get("version_id", 1),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
