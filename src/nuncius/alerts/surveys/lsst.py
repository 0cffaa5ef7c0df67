"""Rubin's Legacy Survey of Space and Time, schema versions 7.4 to 11.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.alerts.lightcurve import Point, mag_err_from_flux, mag_from_flux
from nuncius.alerts.surveys.base import Reading, Survey, identifier, name, number, position
from nuncius.alerts.times import utc_from_tai

if TYPE_CHECKING:
    from typing import ClassVar


class Lsst(Survey):
    """LSST: signed fluxes in nJy, times in MJD TAI at mid-exposure, missing values as NaN as often as None."""

    name = "lsst"
    catalog_prefix = "LSST"
    schema_name = r"lsst\.v\d+_\d+\.alert"
    own_fields = frozenset(
        {"alertId", "diaSourceId", "observation_reason", "target_name", "diaSource", "prvDiaSources",
         "prvDiaForcedSources", "prvDiaNondetectionLimits", "diaObject", "ssObject", "ssSource", "MPCORB",
         "mpc_orbits", "cutoutScience", "cutoutTemplate", "cutoutDifference"}
    )  # fmt: skip
    reading_fields = frozenset({"diaSourceId", "alertId", "diaSource"})
    history_lists = ("prvDiaSources", "prvDiaForcedSources", "prvDiaNondetectionLimits")
    measurement_fields: ClassVar[frozenset[str]] = frozenset(
        {"diaSourceId", "diaForcedSourceId", "diaObjectId", "ssObjectId", "visit", "detector", "midpointMjdTai",
         "ra", "dec", "raErr", "decErr", "band", "psfFlux", "psfFluxErr", "isNegative", "is_negative", "reliability",
         "snr"}
    )  # fmt: skip

    def read(self, packet: dict[str, Any]) -> Reading:
        """Read what the packet says of itself."""
        source = packet.get("diaSource")
        source = source if isinstance(source, dict) else {}
        # Version 8 renamed alertId to diaSourceId.
        alert_id = identifier(packet.get("diaSourceId"))
        alert_id = identifier(packet.get("alertId")) if alert_id is None else alert_id
        point = self._point("detection", source, alert_id)
        tai = number(source.get("midpointMjdTai"))
        return Reading(
            alert_id=alert_id,
            object_id=object_name(source),
            point=point,
            time=(tai, "mjd", "tai") if tai is not None and point.mjd is not None else None,
        )

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Read an earlier detection or forced flux; the noise of non-detections (7.4) has no stated scale."""
        if list_name == "prvDiaSources":
            return self._point("detection", raw, identifier(raw.get("diaSourceId")))
        if list_name == "prvDiaForcedSources":
            point = self._point("forced", raw, None)
            return None if point.flux_njy is None else point
        return None

    def _point(self, kind: Any, raw: dict[str, Any], alert_id: int | str | None) -> Point:
        flux, error = number(raw.get("psfFlux")), number(raw.get("psfFluxErr"))
        ra, dec = position(raw.get("ra"), raw.get("dec"))
        return Point(
            kind=kind,
            mjd=utc_from_tai(number(raw.get("midpointMjdTai"))),
            band=name(raw.get("band")),
            mag=mag_from_flux(flux),
            mag_err=mag_err_from_flux(flux, error),
            flux_njy=flux,
            flux_err_njy=error,
            is_positive=_is_positive(raw, flux),
            ra=ra,
            dec=dec,
            score=number(raw.get("reliability")),
            alert_id=alert_id,
        )


def object_name(source: dict[str, Any]) -> str | None:
    """Name the object of a source: `diaObjectId`, else ``sso`` and `ssObjectId`; 0 stands for none."""
    for prefix, key in (("", "diaObjectId"), ("sso", "ssObjectId")):
        value = identifier(source.get(key))
        if value not in {None, 0}:
            return f"{prefix}{value}"
    return None


def _is_positive(raw: dict[str, Any], flux: float | None) -> bool | None:
    for key in ("isNegative", "is_negative"):
        if isinstance(raw.get(key), bool):
            return not raw[key]
    return None if flux is None else flux > 0
