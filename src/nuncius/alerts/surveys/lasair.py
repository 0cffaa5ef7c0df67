"""Lasair: the columns that a user chose in SQL, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.alerts.lightcurve import Point
from nuncius.alerts.surveys.base import Reading, Survey, identifier, name, number, position
from nuncius.alerts.times import mjd_from_jd, possible_mjd, utc_from_tai

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar


class Lasair(Survey):
    """Messages of a Lasair filter. What they hold is the filter's choice; what it left out is None here.

    Known are Lasair's own names of columns, for ZTF (`objectId`, `ramean`, `decmean`, `jdmax`, `gmag`, `rmag`) and for
    Rubin (`diaObjectId`, `ra`, `decl`, `lastDiaSourceMjdTai`), and those of single alerts (`candid`, `diaSourceId`,
    `magpsf`). `UTC`, when the filter ran, is in `packet`: it is no time of an observation. A magnitude is given only
    where the message has one alone, for of several nobody knows which is the newest.
    """

    name = "lasair"
    catalog_prefix = "LASAIR"
    schema_name = r"(?!)"  # JSON has no schema: a stream of Lasair says whose messages they are
    unique_alert_ids = False

    _positions: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ramean", "decmean"),
        ("ra", "dec"),
        ("ra", "decl"),
    )
    _times: ClassVar[tuple[tuple[str, str, str, Callable[[float | None], float | None]], ...]] = (
        ("jd", "jd", "utc", mjd_from_jd),
        ("jdmax", "jd", "utc", mjd_from_jd),
        ("mjd", "mjd", "utc", possible_mjd),
        ("mjdmax", "mjd", "utc", possible_mjd),
        ("midpointMjdTai", "mjd", "tai", utc_from_tai),
        ("lastDiaSourceMjdTai", "mjd", "tai", utc_from_tai),
    )
    _magnitudes: ClassVar[tuple[tuple[str, str | None], ...]] = (
        ("gmag", "g"),
        ("rmag", "r"),
        ("magpsf", None),
        ("mag", None),
    )

    def read(self, packet: dict[str, Any]) -> Reading:
        """Read the columns that are there."""
        ids = (identifier(packet.get(key)) for key in ("candid", "diaSourceId"))
        objects = (name(packet.get(key)) for key in ("objectId", "diaObjectId", "object_id"))
        places = (position(packet.get(ra), packet.get(dec)) for ra, dec in self._positions)
        alert_id = next((found for found in ids if found is not None), None)
        ra, dec = next((place for place in places if place[0] is not None), (None, None))
        mjd, time = self._time(packet)
        band, mag = self._magnitude(packet)
        return Reading(
            alert_id=alert_id,
            object_id=next((found for found in objects if found is not None), None),
            point=Point(kind="detection", mjd=mjd, band=band, mag=mag, ra=ra, dec=dec, alert_id=alert_id),
            time=time,
        )

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Return None: there is no history in the messages."""
        return None

    def annotations(self, packet: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return all columns: each of them is Lasair's."""
        return {"lasair": dict(packet)} if packet else {}

    def _time(self, packet: dict[str, Any]) -> tuple[float | None, tuple[float, str, str] | None]:
        for key, form, scale, to_utc in self._times:
            value = number(packet.get(key))
            mjd = to_utc(value)
            if value is not None and mjd is not None:
                return mjd, (value, form, scale)
        return None, None

    def _magnitude(self, packet: dict[str, Any]) -> tuple[str | None, float | None]:
        found = [(band, number(packet.get(key))) for key, band in self._magnitudes]
        known = [(band, mag) for band, mag in found if mag is not None]
        if len(known) != 1:
            return None, None
        band, mag = known[0]
        return band or name(packet.get("band")), mag
