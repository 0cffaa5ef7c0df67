"""Alerts of ZTF and Rubin as BOOM sends them on, through Babamul: one shape for both, with what BOOM found out.

Source: BOOM's code (boom-astro/boom). The measurement of the alert stays the survey's own; the light curve is made of
short points ``{jd, psfFlux, psfFluxErr, band, ra, dec}``, with magnitudes in some releases.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from nuncius.alerts.lightcurve import (
    AB_ZERO_POINT_NJY,
    Point,
    flux_from_mag,
    mag_err_from_flux,
    mag_from_flux,
)
from nuncius.alerts.surveys.base import Reading, Survey, entries, identifier, name, number, position, sign
from nuncius.alerts.surveys.lsst import Lsst
from nuncius.alerts.surveys.ztf import Ztf
from nuncius.alerts.times import mjd_from_jd

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTS = ("prv_candidates", "prv_nondetections", "fp_hists")
_OWN = frozenset(
    {"candid", "objectId", "candidate", *_LISTS, "cutoutScience", "cutoutTemplate", "cutoutDifference"}
)
_SAME_INSTANT_DAYS = 1e-8  # what is left of a time that went through a Julian Date is exact to 0.05 ms
_LIMIT_SIGMA = 5.0


class Boom(Survey):
    """What the alerts of both surveys have in common here."""

    reading_fields: ClassVar[frozenset[str]] = frozenset({"candid", "objectId", "candidate"})
    history_lists: ClassVar[tuple[str, ...]] = _LISTS

    def annotations(self, packet: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what BOOM added: `properties`, `survey_matches`, and whatever else is not the survey's."""
        found = {key: value for key, value in packet.items() if key not in _OWN and value is not None}
        return {"babamul": found} if found else {}

    def history(self, packet: dict[str, Any]) -> Iterator[Point]:
        """Read the light curve. It holds the alert itself too, which is left out."""
        mine = self.read(packet).point
        scale = self.njy_per_unit(packet)
        for list_name in self.history_lists:
            for raw in entries(packet, list_name):
                point = _point(list_name, raw, scale)
                if point is not None and not (
                    point.kind == "detection"
                    and point.band == mine.band
                    and point.mjd is not None
                    and mine.mjd is not None
                    and abs(point.mjd - mine.mjd) < _SAME_INSTANT_DAYS
                ):
                    yield point

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Read one point, without its flux: what the numbers mean shows in the whole packet only."""
        return _point(list_name, raw, None)

    def njy_per_unit(self, packet: dict[str, Any]) -> float | None:
        """Return what the fluxes of the light curve are to be multiplied by to be nJy; None if that doesn't show."""
        return 1.0


class BoomZtf(Boom, Ztf):
    """ZTF's alerts. Their fluxes are named nJy, but were made as uJy times 1e9, a million times too large.

    So the scale is taken from the packet itself, whose alert has a magnitude and a flux: either nJy or 1e-6 nJy.
    Fluxes of any other scale are left out.
    """

    schema_name = r"(.*\.)?(Enriched|Babamul)ZtfAlert"
    own_fields: ClassVar[frozenset[str]] = frozenset()
    history_lists: ClassVar[tuple[str, ...]] = _LISTS

    def band(self, raw: dict[str, Any]) -> str | None:
        """Return the letter that BOOM gives, else that of ZTF's number."""
        return name(raw.get("band")) or super().band(raw)

    def njy_per_unit(self, packet: dict[str, Any]) -> float | None:
        """Compare the flux and the magnitude of the alert."""
        candidate = packet.get("candidate")
        candidate = candidate if isinstance(candidate, dict) else {}
        flux = number(candidate.get("psfFlux"))
        expected = flux_from_mag(number(candidate.get("magpsf"), self.sentinels), is_positive=True)
        if flux is None or flux == 0 or expected is None:
            return None
        return next((scale for scale in (1.0, 1e-6) if 0.9 < abs(flux) * scale / expected < 1.1), None)


class BoomLsst(Boom):
    """Rubin's alerts: the source in `candidate`, fluxes in nJy."""

    name = "lsst"
    catalog_prefix = "LSST"
    schema_name = r"(.*\.)?(Enriched|Babamul)LsstAlert"
    measurement_fields = Lsst.measurement_fields | {"jd"}

    def read(self, packet: dict[str, Any]) -> Reading:
        """Read the source as Rubin describes it; the ids are Rubin's own."""
        candidate = packet.get("candidate")
        candidate = candidate if isinstance(candidate, dict) else {}
        source = candidate.get("dia_source")  # some releases keep it in a record of its own
        source = source if isinstance(source, dict) else candidate
        found = Lsst().read({"diaSourceId": packet.get("candid"), "diaSource": source})
        if identifier(packet.get("objectId")) is None:
            return found
        return Reading(found.alert_id, name(packet.get("objectId")), found.point, found.time)


def _point(list_name: str, raw: dict[str, Any], njy_per_unit: float | None) -> Point | None:
    mjd, band = mjd_from_jd(number(raw.get("jd"))), name(raw.get("band"))
    flux, error = number(raw.get("psfFlux")), number(raw.get("psfFluxErr"))
    flux = None if flux is None or njy_per_unit is None else flux * njy_per_unit
    error = None if error is None or njy_per_unit is None else error * njy_per_unit
    limit = number(raw.get("diffmaglim"))
    if limit is None and error is not None and error > 0:
        limit = AB_ZERO_POINT_NJY - 2.5 * math.log10(_LIMIT_SIGMA * error)
    if list_name == "prv_nondetections":
        return None if limit is None else Point("limit", mjd, band, limiting_mag=limit)
    mag, mag_err = number(raw.get("magpsf")), number(raw.get("sigmapsf"))
    if mag is None:
        mag, mag_err = mag_from_flux(flux), mag_err_from_flux(flux, error)
    if mag is None and flux is None:
        return None
    signed = number(raw.get("psfFlux"))
    ra, dec = position(raw.get("ra"), raw.get("dec"))
    return Point(
        kind="forced" if list_name == "fp_hists" else "detection",
        mjd=mjd,
        band=band,
        mag=mag,
        mag_err=mag_err,
        flux_njy=flux,
        flux_err_njy=error,
        limiting_mag=limit,
        is_positive=sign(raw.get("isdiffpos")) if signed is None else signed > 0,
        ra=ra,
        dec=dec,
    )
