"""The REST interface of ANTARES, version 2, on the loci of a synthetic sky; and the thumbnails of its first interface.

What is not known of the real one (the words of its errors, how the next page is named) is chosen here as FastAPI does it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from nuncius._core.lazy import require
from nuncius.sandbox.elastic import BadQueryError, matches, values_at
from nuncius.sandbox.gravitational_waves import synthetic_notices
from nuncius.sandbox.http import HttpService

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from nuncius.sandbox.gravitational_waves import SkyMap
    from nuncius.sandbox.loci import LocusAlert, SyntheticLocus

_PAGE = 10
_WAVE_LEVEL = 90.0
_BARE_EVERY = 20
_MOST_SAMPLES = 50


class _NotFoundError(Exception):
    """There is no such thing."""


class AntaresRest(HttpService):
    """The REST interface on loopback; it is ready when it is made.

    Parameters
    ----------
    loci : sequence of SyntheticLocus
        What it knows. Of every twentieth, the first included, it has no internal properties.

    Attributes
    ----------
    url : str
        Where version 2 begins.
    notices : list of dict
        Its notices of gravitational waves.
    """

    def __init__(self, loci: Sequence[SyntheticLocus]) -> None:
        require("starlette", extra="sandbox")
        from starlette.applications import Starlette

        self._loci = {locus.locus_id: locus for locus in loci}
        self._alerts = {alert.alert_id: alert for locus in loci for alert in locus.alerts}
        self._alerts |= {str(locus.old_id): locus.newest for locus in loci}
        self._bare = {locus.locus_id for locus in loci[::_BARE_EVERY]}
        self._waves = synthetic_notices(loci[0].ra, loci[0].dec, loci[0].newest.mjd - 1) if loci else ()
        self.notices = [notice for notice, _ in self._waves]
        self._near = {locus.locus_id: self._contours(locus) for locus in loci}
        app = Starlette(routes=self._routes(), exception_handlers={_NotFoundError: _not_found})
        super().__init__(app, name="ANTARES")

    @property
    def url(self) -> str:
        """Where version 2 begins."""
        return f"{self.http_url}/v2/"

    def _routes(self) -> list[Any]:
        from starlette.routing import Route

        paths = {
            "/v2/loci": self._list,
            "/v2/loci/statistics": self._statistics,
            "/v2/loci/{locus_id}": self._locus,
            "/v2/loci/{locus_id}/alerts": self._locus_alerts,
            "/v2/loci/{locus_id}/catalog-matches": self._catalog_matches,
            "/v2/alerts/{alert_id}/thumbnails": self._thumbnails,
            "/v2/catalog_search/{ra:float}/{dec:path}": self._catalog_search,
            "/v2/catalog_samples": self._catalog_samples,
            "/v2/grav_wave_notice/latest": self._latest_notices,
            "/v2/grav_wave_notice/{gracedb_id}/latest": self._latest_notice,
            "/v2/grav_wave_notice/{gracedb_id}/{when}": self._notice,
            "/thumbnails/{alert_id}/{kind}": self._thumbnail,
            "/alerts/data/{alert_id}/thumbnails/{kind}": self._thumbnail,
        }
        return [Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()]

    # Loci -------------------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        asked = request.query_params
        try:
            limit, offset = int(asked.get("limit", _PAGE)), int(asked.get("offset", 0))
            query = json.loads(asked.get("elasticsearch_query", "{}"))
            if limit < 1 or offset < 0 or not isinstance(query, dict) or set(query) - {"query"}:
                raise BadQueryError("limit and offset are numbers, and a query has the key query only")
            found = [
                entry
                for entry in map(self._listed, self._loci.values())
                if not query or matches(query["query"], entry)
            ]
        except (ValueError, RecursionError) as error:
            return _json({"detail": str(error)}, status=400)
        sort = asked.get("sort", "-properties.newest_alert_observation_time")
        _sort(found, sort)
        more = offset + limit < len(found)
        link = self.http_url + request.url.path + "?"
        following = link + urlencode({**asked, "offset": offset + limit})
        page = [{"locus": entry} for entry in found[offset : offset + limit]]
        links = {"self": link + urlencode(dict(asked)), "next": following if more else None}
        return _json({"data": page, "meta": {}, "links": links})

    def _listed(self, locus: SyntheticLocus) -> dict[str, Any]:
        return {
            "locus_id": locus.locus_id,
            "ra": locus.ra,
            "dec": locus.dec,
            "properties": locus.properties,
            "tags": locus.tags,
            "grav_wave_events": self.events(locus),
            "catalogs": locus.catalogs,
        }

    async def _locus(self, request: Request) -> Response:
        locus = self._find(request)
        bare = locus.locus_id in self._bare
        return _answer(
            {
                "id": locus.locus_id,
                "ra": locus.ra,
                "dec": locus.dec,
                "grav_wave_events": self.events(locus),
                "internal_properties": None if bare else locus.internal_properties,
                "user_properties": locus.user_properties,
                "lightcurve": locus.light_curve(),
                "tags": locus.tags,
                "catalogs": locus.catalogs,
            }
        )

    async def _locus_alerts(self, request: Request) -> Response:
        locus = self._find(request)
        waves = [
            {"gracedb_id": name, "contour_level": level, "contour_area": area}
            for name, (level, area) in self._near[locus.locus_id].items()
        ]
        return _answer(
            [
                {
                    "id": alert.alert_id,
                    "mjd": alert.mjd,
                    "created_at": _processed(alert).isoformat(),
                    "properties": alert.properties,
                    "survey": "ztf",
                    "grav_wave_events": waves if alert is locus.newest else [],
                }
                for alert in locus.alerts
            ]
        )

    async def _catalog_matches(self, request: Request) -> Response:
        return _answer(self._find(request).catalog_objects)

    async def _statistics(self, request: Request) -> Response:
        loci = self._loci.values()
        counts = [locus.internal_properties["num_mag_values"] for locus in loci]
        return _answer(
            {
                "id": "statistics",
                "catalogs": _tally(name for locus in loci for name in locus.catalogs),
                "tags": _tally(tag for locus in loci for tag in locus.tags),
                "min_num_measurements": min(counts, default=0),
                "max_num_measurements": max(counts, default=0),
            }
        )

    def _find(self, request: Request) -> SyntheticLocus:
        locus = self._loci.get(request.path_params["locus_id"])
        if locus is None:
            raise _NotFoundError
        return locus

    # Catalogs ---------------------------------------------------------------------------------------------------------

    async def _catalog_search(self, request: Request) -> Response:
        from nuncius.sky import separation_arcsec

        try:
            ra, dec = request.path_params["ra"], float(request.path_params["dec"])
        except ValueError:
            return _json({"detail": "dec is a number"}, status=422)
        near = [
            entry
            for entry in self._catalog()
            if separation_arcsec(ra, dec, entry["ra"], entry["dec"]) <= 3600 * entry["radius"]
        ]
        return _answer([_sample(entry) for entry in near])

    async def _catalog_samples(self, request: Request) -> Response:
        asked = request.query_params.get("n", "5")
        if not asked.isdecimal() or not 1 <= int(asked) <= _MOST_SAMPLES:
            return _json({"detail": f"n is a number from 1 to {_MOST_SAMPLES}"}, status=422)
        samples, taken = [], dict.fromkeys((entry["catalog_name"] for entry in self._catalog()), 0)
        for entry in self._catalog():
            taken[entry["catalog_name"]] += 1
            if taken[entry["catalog_name"]] <= int(asked):
                samples.append(_sample(entry))
        return _answer(samples)

    def _catalog(self) -> list[dict[str, Any]]:
        return [entry for locus in self._loci.values() for entry in locus.catalog_objects]

    # Thumbnails -------------------------------------------------------------------------------------------------------

    async def _thumbnails(self, request: Request) -> Response:
        alert = self._alerts.get(request.path_params["alert_id"])
        if alert is None:
            raise _NotFoundError
        return _answer(
            [
                {
                    "id": _file_name(alert, kind),
                    "filemime": "application/gzip",
                    "src": f"{self.http_url}/thumbnails/{alert.alert_id}/{kind}",
                    "thumbnail_type": kind,
                }
                for kind in alert.thumbnails
            ]
        )

    async def _thumbnail(self, request: Request) -> Response:
        from starlette.responses import Response

        kind = request.path_params["kind"]
        alert = self._alerts.get(request.path_params["alert_id"])
        if alert is None or kind not in alert.thumbnails:
            raise _NotFoundError
        headers = {"content-disposition": f'attachment; filename="{_file_name(alert, kind)}"'}
        return Response(alert.thumbnails[kind], media_type="application/gzip", headers=headers)

    # Gravitational waves ----------------------------------------------------------------------------------------------

    def events(self, locus: SyntheticLocus) -> list[str]:
        """Return the names of the gravitational waves that a locus may belong to."""
        return sorted(self._near[locus.locus_id])

    def _contours(self, locus: SyntheticLocus) -> dict[str, tuple[float, float]]:
        latest: dict[str, SkyMap] = {notice["gracedb_id"]: sky_map for notice, sky_map in self._waves}
        found = {name: sky_map.contour(locus.ra, locus.dec) for name, sky_map in latest.items()}
        return {name: contour for name, contour in found.items() if contour[0] <= _WAVE_LEVEL}

    def _latest(self, gracedb_id: str) -> dict[str, Any] | None:
        return next((entry for entry in reversed(self.notices) if entry["gracedb_id"] == gracedb_id), None)

    async def _latest_notices(self, request: Request) -> Response:
        found = [self._latest(name) for name in request.query_params.getlist("ids")]
        return _answer([notice for notice in found if notice is not None])

    async def _latest_notice(self, request: Request) -> Response:
        notice = self._latest(request.path_params["gracedb_id"])
        if notice is None:
            raise _NotFoundError
        return _answer(notice)

    async def _notice(self, request: Request) -> Response:
        try:
            when = _utc(request.path_params["when"])
        except ValueError:
            return _json({"detail": "the time is in ISO 8601"}, status=422)
        for notice in self.notices:
            same = notice["gracedb_id"] == request.path_params["gracedb_id"]
            if same and _utc(notice["notice_datetime"]) == when:
                return _answer(notice)
        raise _NotFoundError


def _json(content: Any, *, status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status_code=status)


def _answer(data: Any) -> Response:
    return _json({"data": data, "meta": None, "links": None})


async def _not_found(_request: Request, _error: Exception) -> Response:
    return _json({"detail": "Not found"}, status=404)


def _sort(entries: list[dict[str, Any]], by: str) -> None:
    """Sort by a field, backwards with a minus before it; what lacks it comes last."""
    path, backwards = by.removeprefix("-"), by.startswith("-")
    has = [(values_at(entry, path), entry) for entry in entries]
    known = sorted((pair for pair in has if pair[0]), key=lambda pair: pair[0][0], reverse=backwards)
    entries[:] = [entry for _, entry in known] + [entry for values, entry in has if not values]


def _tally(names: Any) -> dict[str, int]:
    from collections import Counter

    return dict(sorted(Counter(names).items()))


def _sample(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("id", "catalog_name", "properties")}


def _file_name(alert: LocusAlert, kind: str) -> str:
    return f"{alert.alert_id.replace(':', '_')}_{kind}.fits.gz"


def _processed(alert: LocusAlert) -> datetime:
    return datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=alert.mjd, minutes=7)


def _utc(text: str) -> datetime:
    when = datetime.fromisoformat(text.replace(" ", "+"))
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
