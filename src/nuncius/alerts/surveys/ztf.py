"""The Zwicky Transient Facility, schema versions 3.2 to 4.02."""

from __future__ import annotations

from typing import Any, ClassVar

from nuncius.alerts.lightcurve import Point, mag_err_from_flux, mag_from_flux
from nuncius.alerts.surveys.base import CandidateSurvey, number
from nuncius.alerts.times import mjd_from_jd

# Fluxes of forced photometry are in DN of an image with this zero point; 23.9 is the AB magnitude of 1 uJy.
_AB_ZERO_POINT_UJY = 23.9
_GOOD_PHOTOMETRY = "0"


class Ztf(CandidateSurvey):
    """ZTF: difference magnitudes (AB), history of 30 days, forced photometry since schema 4.0."""

    name = "ztf"
    catalog_prefix = "ZTF"
    schema_name = r"ztf\.alert"
    own_fields = frozenset(
        {"schemavsn", "publisher", "objectId", "candid", "candidate", "prv_candidates", "fp_hists",
         "cutoutScience", "cutoutTemplate", "cutoutDifference"}
    )  # fmt: skip
    history_lists: ClassVar[tuple[str, ...]] = ("prv_candidates", "fp_hists")
    bands = {1: "g", 2: "r", 3: "i"}
    sentinels = frozenset({-999.0, -99999.0})
    magnitudes_are_ab = True
    measurement_fields = CandidateSurvey.measurement_fields | {
        "forcediffimflux",
        "forcediffimfluxunc",
        "magzpsci",
        "procstatus",
    }

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Read an earlier candidate, or a point of forced photometry."""
        if list_name != "fp_hists":
            return super().history_point(list_name, raw)
        flux = number(raw.get("forcediffimflux"), self.sentinels)
        error = number(raw.get("forcediffimfluxunc"), self.sentinels)
        zero_point = number(raw.get("magzpsci"), self.sentinels)
        if flux is None or zero_point is None or raw.get("procstatus") not in (_GOOD_PHOTOMETRY, None):
            return None  # the pipeline says that this point failed
        to_njy = 1000 * 10 ** (0.4 * (_AB_ZERO_POINT_UJY - zero_point))
        flux_njy = flux * to_njy
        flux_err_njy = None if error is None else error * to_njy
        return Point(
            kind="forced",
            mjd=mjd_from_jd(number(raw.get("jd"))),
            band=self.band(raw),
            mag=mag_from_flux(flux_njy),
            mag_err=mag_err_from_flux(flux_njy, flux_err_njy),
            flux_njy=flux_njy,
            flux_err_njy=flux_err_njy,
            limiting_mag=number(raw.get("diffmaglim"), self.sentinels),
            is_positive=flux > 0,
        )
