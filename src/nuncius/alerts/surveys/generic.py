"""Any other packet, Avro, BSON or JSON: ids and position by rules, nothing guessed beyond them.

The first field that is present wins, on the top level first and then in the records `candidate`, `diaSource`,
`alert`, `object`, `properties` and `attributes`:

- alert id: `alertId`, `alert_id`, `candid`, `diaSourceId`, `id`
- object id: `objectId`, `objectid`, `object_id`, `diaObjectId`, `locus_id`
- position: `ra` with `dec` or `decl`, `RA` with `Dec` or `DEC`, `raDeg` with `decDeg`, in degrees
- time: `mjd` (UTC), `jd` (UTC), `midpointMjdTai` (TAI)
- band: `band`, `filter`; magnitude: `magpsf` with `sigmapsf`, `mag` with `mag_err`
"""

from __future__ import annotations

from typing import Any

from nuncius.alerts.lightcurve import Point
from nuncius.alerts.surveys.base import Reading, Survey, identifier, name, number, position, sign
from nuncius.alerts.times import mjd_from_jd, possible_mjd, utc_from_tai

_RECORDS = ("candidate", "diaSource", "alert", "object", "properties", "attributes")
_ALERT_IDS = ("alertId", "alert_id", "candid", "diaSourceId", "id")
_OBJECT_IDS = ("objectId", "objectid", "object_id", "diaObjectId", "locus_id")
_POSITIONS = (("ra", "dec"), ("ra", "decl"), ("RA", "Dec"), ("RA", "DEC"), ("raDeg", "decDeg"))
_MAGNITUDES = (("magpsf", "sigmapsf"), ("mag", "mag_err"))
_SENTINELS = frozenset({-999.0, -99.0, -99999.0})


class Generic(Survey):
    """A packet of no known survey; its name is that of its schema."""

    name = "generic"
    catalog_prefix = "GENERIC"
    schema_name = r".*"
    unique_alert_ids = False

    def read(self, packet: dict[str, Any]) -> Reading:
        """Read what can be found by the rules of this module."""
        records = [packet, *(packet[key] for key in _RECORDS if isinstance(packet.get(key), dict))]

        def first(keys: tuple[str, ...]) -> Any:
            return next(
                (
                    record[key]
                    for record in records
                    for key in keys
                    if identifier(record.get(key)) is not None
                ),
                None,
            )

        ra, dec = self._position(records)
        mag, mag_err = self._magnitude(records)
        mjd, time = self._time(records)
        alert_id = identifier(first(_ALERT_IDS))
        sign_of = next((record["isdiffpos"] for record in records if "isdiffpos" in record), None)
        return Reading(
            alert_id=alert_id,
            object_id=name(first(_OBJECT_IDS)),
            point=Point(
                kind="detection",
                mjd=mjd,
                band=name(first(("band", "filter"))),
                mag=mag,
                mag_err=mag_err,
                is_positive=sign(sign_of),
                ra=ra,
                dec=dec,
                alert_id=alert_id,
            ),
            time=time,
        )

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Return None: nothing is known of the lists in such packets."""
        return None

    @staticmethod
    def _position(records: list[dict[str, Any]]) -> tuple[float | None, float | None]:
        for record in records:
            for ra_key, dec_key in _POSITIONS:
                ra, dec = position(record.get(ra_key), record.get(dec_key))
                if ra is not None:
                    return ra, dec
        return None, None

    @staticmethod
    def _magnitude(records: list[dict[str, Any]]) -> tuple[float | None, float | None]:
        for record in records:
            for mag_key, error_key in _MAGNITUDES:
                mag = number(record.get(mag_key), _SENTINELS)
                if mag is not None:
                    return mag, number(record.get(error_key), _SENTINELS)
        return None, None

    @staticmethod
    def _time(records: list[dict[str, Any]]) -> tuple[float | None, tuple[float, str, str] | None]:
        for record in records:
            for key, form, scale, to_utc in (
                ("mjd", "mjd", "utc", possible_mjd),
                ("jd", "jd", "utc", mjd_from_jd),
                ("midpointMjdTai", "mjd", "tai", utc_from_tai),
            ):
                value = number(record.get(key))
                mjd = to_utc(value)
                if value is not None and mjd is not None:
                    return mjd, (value, form, scale)
        return None, None
