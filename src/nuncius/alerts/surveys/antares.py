"""ANTARES: loci, each the place in the sky of one object, sent whenever a filter has marked one."""

from __future__ import annotations

from typing import Any

from nuncius.alerts.lightcurve import Point
from nuncius.alerts.surveys.base import Reading, Survey, identifier, name, number, position
from nuncius.alerts.times import possible_mjd


class Antares(Survey):
    """Loci of ANTARES, in the three forms in which its messages have come.

    - since 2.0: ``{id, ra, dec, properties, tags, catalogs}``;
    - 1.x, after JSON:API: ``{data: {id, attributes: {ra, dec, properties, tags, catalogs}}}``;
    - 0.x: one alert within its locus, ``{new_alert: {alert_id, …, properties}, locus_id, ra, dec}``.

    The measurement is that of the newest alert of the locus, as far as the message tells. Its alerts, light curve and
    images are not in the message: `nuncius.open_archive` asks ANTARES for them. A locus whose message doesn't name the
    newest alert is told apart by its content.
    """

    name = "antares"
    catalog_prefix = "ANTARES"
    schema_name = r"(?!)"  # BSON has no schema: a stream of ANTARES says whose messages they are

    def read(self, packet: dict[str, Any]) -> Reading:
        """Read what the message says of the locus and its newest alert."""
        locus, properties = _locus(packet)
        alert = _record(packet.get("new_alert"))
        own = _record(alert.get("properties"))
        mjd = _first(
            number, properties.get("newest_alert_observation_time"), alert.get("mjd"), own.get("ztf_jd")
        )
        if mjd is not None and mjd > 2_400_000:  # a Julian Date, as the ZTF properties of an alert have it
            mjd -= 2400000.5
        mjd = possible_mjd(mjd)
        ra, dec = position(locus.get("ra"), locus.get("dec"))
        if ra is None:
            ra, dec = position(alert.get("ra"), alert.get("dec"))
        alert_id = _alert_id(properties, alert)
        point = Point(
            kind="detection",
            mjd=mjd,
            band=_first(name, properties.get("newest_alert_passband"), own.get("passband")),
            mag=_first(
                number, properties.get("newest_alert_magnitude"), own.get("ant_mag"), own.get("ztf_magpsf")
            ),
            ra=ra,
            dec=dec,
            alert_id=alert_id,
        )
        return Reading(
            alert_id=alert_id,
            object_id=_first(name, locus.get("id"), packet.get("locus_id"), packet.get("id")),
            point=point,
            time=None if mjd is None else (mjd, "mjd", "utc"),
        )

    def history_point(self, list_name: str, raw: dict[str, Any]) -> Point | None:
        """Return None: there is no history in the messages."""
        return None

    def annotations(self, packet: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what ANTARES says of the locus: tags, catalogs with a match, properties."""
        locus, properties = _locus(packet)
        found = {key: locus[key] for key in ("tags", "catalogs") if locus.get(key)}
        if properties:
            found["properties"] = properties
        return {"antares": found} if found else {}


def _locus(packet: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the locus and its properties, in whichever form they came."""
    data = packet.get("data")
    if isinstance(data, dict):
        packet = {**_record(data.get("attributes")), "id": data.get("id")}
    return packet, _record(packet.get("properties"))


def _alert_id(properties: dict[str, Any], alert: dict[str, Any]) -> int | str | None:
    newest: int | str | None = _first(identifier, properties.get("newest_alert_id"), alert.get("alert_id"))
    if newest is not None or alert.get("original_id") is None:
        return newest
    return f"{name(alert.get('survey'))}-{name(alert['original_id'])}"


def _record(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(kind: Any, *values: Any) -> Any:
    """Return the first of the values that is of a kind."""
    for value in values:
        if value is not None and (found := kind(value)) is not None:
            return found
    return None
