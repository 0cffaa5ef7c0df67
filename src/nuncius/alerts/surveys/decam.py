"""DECam, the DESIRT transient search, schema version 0.1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.alerts.lightcurve import Point, mag_err_from_flux, mag_from_flux
from nuncius.alerts.surveys.base import Reading, Survey, identifier, name, number, position, sign
from nuncius.alerts.times import possible_mjd

if TYPE_CHECKING:
    from typing import ClassVar


class Decam(Survey):
    """DECam: fluxes in nJy (`psfFlux`), times in MJD UTC. Alert ids are small numbers that repeat."""

    name = "decam"
    catalog_prefix = "DECAM"
    schema_name = r"desirt\.alert"
    own_fields = frozenset(
        {"publisher", "objectId", "candid", "candidate", "fp_hists",
         "cutoutScience", "cutoutTemplate", "cutoutDifference"}
    )  # fmt: skip
    unique_alert_ids = False
    reading_fields = frozenset({"objectId", "candid", "candidate"})
    history_lists = ("fp_hists",)
    measurement_fields: ClassVar[frozenset[str]] = frozenset(
        {"mjd", "band", "ra", "dec", "psfFlux", "psfFluxErr", "diffmaglim", "isdiffpos", "reliability"}
    )

    def read(self, packet: dict[str, Any]) -> Reading:
        """Read what the packet says of itself."""
        candidate = packet.get("candidate")
        candidate = candidate if isinstance(candidate, dict) else {}
        alert_id = identifier(packet.get("candid"))
        point = self._point("detection", candidate, alert_id)
        time = None if point.mjd is None else (point.mjd, "mjd", "utc")
        return Reading(alert_id, name(packet.get("objectId")), point, time)

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Read a point of forced photometry."""
        point = self._point("forced", raw, None)
        return None if point.flux_njy is None else point

    def _point(self, kind: Any, raw: dict[str, Any], alert_id: int | str | None) -> Point:
        flux, error = number(raw.get("psfFlux")), number(raw.get("psfFluxErr"))
        ra, dec = position(raw.get("ra"), raw.get("dec"))
        return Point(
            kind=kind,
            mjd=possible_mjd(number(raw.get("mjd"))),
            band=name(raw.get("band")),
            mag=mag_from_flux(flux),
            mag_err=mag_err_from_flux(flux, error),
            flux_njy=flux,
            flux_err_njy=error,
            limiting_mag=number(raw.get("diffmaglim")),
            is_positive=sign(raw.get("isdiffpos")),
            ra=ra,
            dec=dec,
            score=number(raw.get("reliability")),
            alert_id=alert_id,
        )
