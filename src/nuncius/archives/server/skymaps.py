"""Sky maps that users put in, and the regions of the sky that they make.

A map is kept as its credible regions, in the accounts' file: the archive itself is never written.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nuncius.alerts.packets.compression import gunzip
from nuncius.archives.language.bounds import check_time
from nuncius.archives.server.limits import Refusal, forbidden, invalid, wrong
from nuncius.errors import ConfigurationError, PacketError

if TYPE_CHECKING:
    from nuncius.archives.server.accounts import Account, Accounts
    from nuncius.sky import Moc, Region

_PERCENTS = (90.0, 95.0)
_MOST_CONTOURS = 10
_MOST_RANGES = 1_000_000
_MOST_MAPS = 500  # of one user
_MOST_BYTES = 100_000_000  # of the contours of one user
_MOST_CONTENT = 64 << 20  # bytes of a map that was packed
_MOST_VERTICES = 1_000
_MOST_CELLS = 100_000  # of a cone, an ellipse or a polygon
_SHOWN_CELLS = 5_000
_FINEST_SHOWN = 10  # cells of 3.4 arcminutes
_ELLIPSE_VERTICES = 180
_GZIP = b"\x1f\x8b"


class SkyMaps:
    """The sky maps of a server.

    Parameters
    ----------
    accounts : Accounts
        In whose file they are kept.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def put(self, request: Any, owner: str) -> dict[str, Any]:
        """Keep the credible regions of a map, and return what was kept.

        Raises
        ------
        Refusal
            If it is no map, or kept already.
        """
        request = _mapping(request)
        dateobs, percents = _date(request.get("dateobs")), _percents(request.get("contours"), _PERCENTS)
        aliases = _texts(request.get("aliases") or [], "aliases")
        trigger = request.get("triggerid")
        if "voevent" in request:
            raise invalid("voevent is not read by this server; give the region as skymap")
        name, center, contours = _contours_of(_mapping(request.get("skymap")), percents)
        row = (owner, dateobs, None if trigger is None else str(trigger)[:100], json.dumps(aliases), name)
        with self._accounts._writing() as connection:
            (many,) = connection.execute("SELECT count(*) FROM skymaps WHERE owner = ?", (owner,)).fetchone()
            (size,) = connection.execute(
                "SELECT coalesce(sum(length(low) + length(high)), 0) FROM contours JOIN skymaps ON skymap = id "
                "WHERE owner = ?",
                (owner,),
            ).fetchone()
            size += sum(moc.low.nbytes + moc.high.nbytes for moc in contours.values())
            if many >= _MOST_MAPS or size > _MOST_BYTES:
                raise forbidden(
                    f"{owner} has {many} sky maps, which is all that there is room for; delete some first"
                )
            done = connection.execute(
                "INSERT OR IGNORE INTO skymaps (owner, dateobs, trigger_id, aliases, name, center) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (*row, json.dumps(center)),
            )
            if not done.rowcount:
                raise Refusal(409, "already_exists")
            for percent, moc in contours.items():
                connection.execute(
                    "INSERT INTO contours VALUES (?, ?, ?, ?)",
                    (done.lastrowid, percent, moc.low.tobytes(), moc.high.tobytes()),
                )
        return {"dateobs": request["dateobs"], "localization_name": name, "contours": [*percents]}

    def get(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return a map as Kowalski shows it, its regions as polygons.

        Raises
        ------
        Refusal
            If there is none.
        """
        from nuncius.sky import to_geojson

        found = self._found(asked, asked.get("localization_name"))
        if found is None:
            raise Refusal(404, "no skymap found")
        number, _, dateobs, trigger, aliases, name, center = found
        contours: dict[str, Any] = {"center": json.loads(center)}
        for percent in _percents(asked.get("contours"), ()) or self._levels(number):
            moc = self._moc(number, percent)
            if moc is None:
                raise Refusal(404, f"contour level {percent:g} not found in skymap")
            contours[f"contour{percent:g}"] = to_geojson(
                moc, min(_FINEST_SHOWN, _order_of(moc, _SHOWN_CELLS))
            )
        return {
            "dateobs": datetime.fromisoformat(dateobs),
            "triggerid": trigger,
            "aliases": json.loads(aliases),
            "localization_name": name,
            "contours": contours,
        }

    def delete(self, asked: Any, account: Account) -> str:
        """Delete a map that the user has put in (an admin: any), and return its name.

        Raises
        ------
        Refusal
            If there is none, or it is somebody else's.
        """
        asked = _mapping(asked)
        found = self._found(asked, asked.get("localization_name"))
        if found is None:
            raise wrong("ValueError", "no skymap found")
        number, owner, name = found[0], found[1], str(found[5])
        if owner != account.name and not account.admin:
            raise forbidden("this sky map was put in by somebody else")
        with self._accounts._writing() as connection:
            connection.execute("DELETE FROM contours WHERE skymap = ?", (number,))
            connection.execute("DELETE FROM skymaps WHERE id = ?", (number,))
        return name

    def region(self, asked: Any) -> Region:
        """Return the region that a query names.

        Raises
        ------
        Refusal
            If there is none.
        """
        asked = _mapping(asked)
        if not isinstance(asked.get("localization_name"), str):
            raise invalid("name must be specified")
        found = self._found(asked, asked["localization_name"])
        if found is None:
            raise wrong("ValueError", "Skymap not found")
        (percent,) = _percents(asked.get("contour", 90), ())[:1] or (90.0,)
        moc = self._moc(found[0], percent)
        if moc is None:
            raise wrong("ValueError", f"Contour level {percent:g} not found in skymap")
        return moc

    def _found(self, asked: dict[str, Any], name: Any) -> tuple[Any, ...] | None:
        """Return the row of a map that is named by its time, trigger or another of its names."""
        where, values = [], []
        if asked.get("dateobs") is not None:
            where, values = ["dateobs = ?"], [_date(asked["dateobs"])]
        elif (trigger := asked.get("trigger_id", asked.get("triggerid"))) is not None:
            where, values = ["trigger_id = ?"], [str(trigger)]
        elif aliases := _texts(asked.get("aliases", asked.get("alias")) or [], "aliases"):
            where = ["EXISTS (SELECT 1 FROM json_each(aliases) a JOIN json_each(?) b ON a.value = b.value)"]
            values = [json.dumps(aliases)]
        else:
            raise invalid("one of dateobs, trigger_id and aliases must be specified")
        if isinstance(name, str):
            where, values = [*where, "name = ?"], [*values, name]
        statement = "SELECT id, owner, dateobs, trigger_id, aliases, name, center FROM skymaps WHERE "
        with self._accounts._reading() as connection:
            row: tuple[Any, ...] | None = connection.execute(
                statement + " AND ".join(where) + " ORDER BY id LIMIT 1", values
            ).fetchone()
        return row

    def _levels(self, number: int) -> list[float]:
        with self._accounts._reading() as connection:
            rows = connection.execute(
                "SELECT percent FROM contours WHERE skymap = ? ORDER BY percent", (number,)
            )
            return [percent for (percent,) in rows]

    def _moc(self, number: int, percent: float) -> Moc | None:
        import numpy as np

        from nuncius.sky import Moc

        with self._accounts._reading() as connection:
            row = connection.execute(
                "SELECT low, high FROM contours WHERE skymap = ? AND percent = ?", (number, percent)
            ).fetchone()
        return None if row is None else Moc(*(np.frombuffer(bounds, np.int64) for bounds in row))


# What is put in -------------------------------------------------------------------------------------------------------


def _contours_of(
    skymap: dict[str, Any], percents: tuple[float, ...]
) -> tuple[str, dict[str, Any], dict[float, Moc]]:
    """Return the name of a map, its centre, and its credible regions by percent."""
    from nuncius.sky import to_region

    if "url" in skymap:
        raise forbidden("this server fetches no sky map from another one; send its content")
    name = skymap.get("localization_name")
    if not isinstance(name, str) and skymap.keys() >= {"ra", "dec", "error"}:
        name = "_".join(f"{_number(skymap[part], part):.5f}" for part in ("ra", "dec", "error"))
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise invalid("localization_name must be specified")
    source = _source(skymap)
    try:
        if source is not None:
            mocs = {percent: _moc_of(to_region(source, percent / 100)) for percent in percents}
        else:
            mocs = {}
            for percent in percents:
                check_time()
                mocs[percent] = _cells_within(_shape(skymap, percent / 100))
    except ConfigurationError as error:
        raise wrong("ValueError", f"the skymap can't be used: {error}") from None
    if any(len(moc.low) > _MOST_RANGES for moc in mocs.values()):
        raise wrong("ValueError", f"the skymap has more than {_MOST_RANGES} ranges of cells")
    return name, _center(mocs[min(percents)]), mocs


def _source(skymap: dict[str, Any]) -> Any:
    """Return the table or file of a map of probabilities; None if it is a shape."""
    if skymap.keys() >= {"uniq", "probdensity"}:
        from astropy.table import Table

        uniq, density = skymap["uniq"], skymap["probdensity"]
        if not isinstance(uniq, list) or not isinstance(density, list) or len(uniq) != len(density):
            raise wrong("ValueError", "uniq and probdensity must be lists of one length")
        whole = all(isinstance(cell, int) and 0 <= cell < 2**63 for cell in uniq)
        if not uniq or not whole or not all(isinstance(value, (int, float)) for value in density):
            raise wrong("ValueError", "uniq must hold whole numbers and probdensity numbers")
        return Table({"UNIQ": uniq, "PROBDENSITY": [float(value) for value in density]})
    if "content" not in skymap:
        return None
    try:
        content = base64.b64decode(str(skymap["content"]), validate=True)
        return gunzip(content, most=_MOST_CONTENT) if content.startswith(_GZIP) else content
    except (binascii.Error, ValueError) as error:
        if isinstance(error, PacketError):
            raise wrong("ValueError", f"content can't be unpacked: {error}") from None
        raise wrong("ValueError", "content must be a FITS file in base64") from None


def _shape(skymap: dict[str, Any], credible: float) -> Region:
    """Return a credible region of a position with its error, an ellipse or a polygon."""
    from nuncius.sky import Cone, Polygon

    if "polygon" in skymap:
        vertices = skymap["polygon"]
        if not isinstance(vertices, list) or len(vertices) > _MOST_VERTICES:
            raise wrong(
                "ValueError", f"polygon must be a list of at most {_MOST_VERTICES} pairs of ra and dec"
            )
        return Polygon(vertices)
    # The errors are standard deviations of a normal distribution on the plane (Rayleigh's distribution of the radius).
    scale = math.sqrt(-2 * math.log1p(-credible))
    if skymap.keys() >= {"ra", "dec", "error"}:
        ra, dec, error = (_number(skymap[part], part) for part in ("ra", "dec", "error"))
        return Cone(ra, dec, error * scale * 3600)
    if skymap.keys() >= {"ra", "dec", "amaj", "amin", "phi"}:
        ra, dec, *axes = (_number(skymap[part], part) for part in ("ra", "dec", "amaj", "amin", "phi"))
        return _ellipse(ra, dec, axes[0] * scale, axes[1] * scale, axes[2])
    raise invalid(
        "skymap must hold uniq and probdensity, content, polygon, ra dec error, or ra dec amaj amin phi"
    )


def _ellipse(ra: float, dec: float, major: float, minor: float, angle: float) -> Region:
    """Return an ellipse; all in degrees, the angle of its major axis from north through east."""
    import numpy as np
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    from nuncius.sky import Polygon

    if not 0 < minor <= 60 or not 0 < major <= 60 or not -90 <= dec <= 90:
        raise wrong("ValueError", "amaj and amin must be positive, and their region smaller than 60 degrees")
    turn = np.linspace(0, 2 * np.pi, _ELLIPSE_VERTICES, endpoint=False)
    along, across = major * np.cos(turn), minor * np.sin(turn)
    direction = np.degrees(np.arctan2(across, along)) + angle
    edge = SkyCoord(ra, dec, unit="deg").directional_offset_by(
        direction * u.deg, np.hypot(along, across) * u.deg
    )
    return Polygon(edge)


def _moc_of(region: Region) -> Moc:
    from nuncius.sky import Moc

    return region if isinstance(region, Moc) else Moc(*region.ranges())


def _cells_within(region: Region) -> Moc:
    """Return the cells whose centres lie in a region, as small as is sensible."""
    from nuncius.sky import Moc, _centres
    from nuncius.sky.cells import cells_of_ranges

    order = _order_of(region, _MOST_CELLS)
    cells = cells_of_ranges(*region.ranges(), order)
    return Moc.of_cells(cells[region.contains(*_centres(cells, order))], order)


def _center(moc: Moc) -> dict[str, Any]:
    """Return the mean position of a region, as GeoJSON has it."""
    import numpy as np

    from nuncius.sky import _centres
    from nuncius.sky.cells import cells_of_ranges

    if not len(moc.low):
        raise wrong("ValueError", "the skymap covers nothing")
    order = _order_of(moc, _MOST_CELLS)
    ra, dec = np.radians(_centres(cells_of_ranges(moc.low, moc.high, order), order))
    x, y, z = (np.mean(part) for part in (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)))
    lon, lat = math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))
    return {"type": "Point", "coordinates": [lon - 180, lat]}


def _order_of(region: Region, most_cells: int) -> int:
    """Return the finest order at which a region has no more than about so many cells."""
    from nuncius.sky import ORDER

    low, high = region.ranges()
    area = int((high - low).sum())
    order = ORDER
    while order and area >> (2 * (ORDER - order)) > most_cells:
        order -= 1
    return order


# Parts of requests ----------------------------------------------------------------------------------------------------


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong("AttributeError", f"{type(value).__name__!r} object has no attribute 'get'")
    return value


def _date(value: Any) -> str:
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"):
        try:
            return datetime.strptime(str(value), form).replace(tzinfo=UTC).isoformat()
        except ValueError:
            continue
    raise invalid("dateobs must be in the form YYYY-MM-DDTHH:MM:SS[.ffffff]")


def _percents(value: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    if value is None or value == "":
        return default
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    percents = tuple(_number(part, "contours") for part in parts)
    if not 0 < len(percents) <= _MOST_CONTOURS or not all(0 < percent < 100 for percent in percents):
        raise invalid(f"contours must be 1 to {_MOST_CONTOURS} numbers between 0 and 100")
    return percents


def _texts(value: Any, name: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > 50 or not all(isinstance(v, str) for v in values):
        raise invalid(f"{name} must be a list of at most 50 texts")
    return values


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise invalid(f"{name} must be a number")
    return number
