"""Loci of the synthetic sky, as ANTARES would have them: what goes over its stream and what its REST interface knows.

A locus is an object; it holds alerts of surveys (here of the synthetic one, shaped like ZTF's) and upper limits between
them. What users know of ANTARES is in its names: `newest_alert_observation_time` is a Modified Julian Date, the ids of
alerts begin with ``ztf_candidate:`` or ``ztf_upper_limit:``.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from nuncius.alerts.times import JD_OF_MJD_0
from nuncius.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius.sandbox.sky import SkyObject

Shape: TypeAlias = Literal["new", "old", "0.2"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PASSBANDS = {1: "g", 2: "R", 3: "i"}
_BRIGHT_MAG = 17.0
_NUCLEAR_ARCSEC = 1.5
_FIRST_OLD_ID = 9_898_524
_COLUMNS = (
    "ant_mjd",
    "ant_survey",
    "ant_ra",
    "ant_dec",
    "ant_passband",
    "ant_mag",
    "ant_magerr",
    "ant_maglim",
)
_CUTOUTS = {"template": "cutoutTemplate", "science": "cutoutScience", "difference": "cutoutDifference"}


@dataclass(frozen=True, slots=True)
class LocusAlert:
    """An alert, or an upper limit, of a locus.

    Parameters
    ----------
    alert_id : str
        The id in ANTARES.
    mjd : float
        When it was observed.
    properties : dict
        What is known of it.
    thumbnails : dict
        Images by type, as gzipped FITS; empty where there are none.
    """

    alert_id: str
    mjd: float
    properties: dict[str, Any]
    thumbnails: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SyntheticLocus:
    """An object as ANTARES has it.

    Parameters
    ----------
    locus_id : str
        The id in ANTARES.
    ra, dec : float
        Mean position in degrees, ICRS.
    alerts : tuple of LocusAlert
        Its history, the oldest first.
    internal_properties, user_properties : dict
        What ANTARES and what the filters of its users say of it.
    tags : list of str
        The streams it is in.
    catalog_objects : list of dict
        What catalogs have at its place, as the REST interface gives it.
    old_id : int
        The number of its newest alert in the interface of the year 2019.
    """

    locus_id: str
    ra: float
    dec: float
    alerts: tuple[LocusAlert, ...]
    internal_properties: dict[str, Any]
    user_properties: dict[str, Any]
    tags: list[str]
    catalog_objects: list[dict[str, Any]]
    old_id: int

    @property
    def properties(self) -> dict[str, Any]:
        """All properties in one."""
        return self.internal_properties | self.user_properties

    @property
    def catalogs(self) -> list[str]:
        """The names of the catalogs that know it."""
        return sorted({entry["catalog_name"] for entry in self.catalog_objects})

    @property
    def newest(self) -> LocusAlert:
        """The newest alert that is a detection."""
        return next(alert for alert in reversed(self.alerts) if "ant_mag" in alert.properties)

    def document(self, shape: Shape = "new") -> dict[str, Any]:
        """Return what a message says.

        Parameters
        ----------
        shape : str
            ``new``; ``old``: within `data` and `attributes`; ``0.2``: an alert and its history, as first documented.
        """
        if shape not in get_args(Shape):
            raise ConfigurationError(f"shape={shape!r}: choose one of {', '.join(get_args(Shape))}")
        if shape == "0.2":
            return self._documented()
        values = {
            "ra": self.ra,
            "dec": self.dec,
            "properties": self.properties,
            "tags": self.tags,
            "catalogs": self.catalogs,
        }
        if shape == "new":
            return {"id": self.locus_id, **values}
        return {"data": {"id": self.locus_id, "attributes": values}}

    def encode(self, shape: Shape = "new") -> bytes:
        """Return the value of a message."""
        return encode_document(self.document(shape))

    def _documented(self) -> dict[str, Any]:
        newest = self.newest
        alerts = [
            {
                "alert_id": self.old_id if alert is newest else f"{self.old_id}-{index}",
                "survey": "ztf",
                "original_id": alert.alert_id.partition(":")[2],
                "ra": alert.properties.get("ant_ra", self.ra),
                "dec": alert.properties.get("ant_dec", self.dec),
                "mjd": alert.mjd,
                "properties": alert.properties,
            }
            for index, alert in enumerate(self.alerts)
        ]
        place = self.alerts.index(newest)
        return {
            "locus_id": self.old_id,
            "timestamp_unix": 86400 * (newest.mjd - 40587),
            "new_alert": alerts[place],
            "history": alerts[:place],
        }

    def light_curve(self) -> str:
        """Return the light curve as CSV with a header line."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ("alert_id", *_COLUMNS), restval="", lineterminator="\n")
        writer.writeheader()
        for alert in self.alerts:
            known = {name: alert.properties[name] for name in _COLUMNS if name in alert.properties}
            writer.writerow({"alert_id": alert.alert_id} | known)
        return text.getvalue()


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Encode a message as ANTARES does: BSON, compressed with zlib."""
    import bson

    return zlib.compress(bson.encode(document))


@lru_cache(maxsize=4)
def synthetic_loci(alerts: int = 120, *, seed: int = 1) -> tuple[SyntheticLocus, ...]:
    """Return the loci of a synthetic sky.

    Parameters
    ----------
    alerts : int
        How many alerts of the survey they come from.
    seed : int
        Of the synthetic sky.

    Returns
    -------
    tuple of SyntheticLocus
        Those that were seen first come first.

    Examples
    --------
    >>> loci = synthetic_loci(30)
    >>> loci[0].locus_id
    'ANT2026aaaaa'
    >>> sorted(loci[0].document())
    ['catalogs', 'dec', 'id', 'properties', 'ra', 'tags']
    """
    from nuncius.alerts import Alert
    from nuncius.sandbox.sky import SyntheticSky

    sky = SyntheticSky(seed=seed)
    packets: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for packet in sky.alerts(alerts):
        record = dict(Alert.from_bytes(packet).packet)
        packets[record["objectId"]].append(record)
    sources = {source.object_id: source for source in sky.objects}
    catalog = _catalog(sky.objects, seed)
    return tuple(
        _locus(index, records, _source_of(records[-1], sources), catalog)
        for index, records in enumerate(packets.values())
    )


def _source_of(record: Mapping[str, Any], sources: Mapping[str, SkyObject]) -> SkyObject:
    found = sources.get(record["objectId"]) or sources.get(record["candidate"]["ssnamenr"])
    assert found is not None
    return found


def _locus(
    index: int,
    records: Sequence[dict[str, Any]],
    source: SkyObject,
    catalog: Mapping[str, dict[str, Any]],
) -> SyntheticLocus:
    history = _history(records)
    seen = [alert for alert in history if "ant_mag" in alert.properties]
    first_ra = seen[0].properties["ant_ra"]  # right ascensions on both sides of 0 have no plain mean
    ra = (
        first_ra
        + sum((alert.properties["ant_ra"] - first_ra + 180) % 360 - 180 for alert in seen) / len(seen)
    ) % 360
    dec = sum(alert.properties["ant_dec"] for alert in seen) / len(seen)
    name = records[-1]["objectId"]
    return SyntheticLocus(
        locus_id="ANT2026" + _letters(index),
        ra=ra,
        dec=dec,
        alerts=tuple(history),
        internal_properties=_internal(index, name, source, history, seen),
        user_properties={"anomaly_score": round(1 - records[-1]["candidate"]["drb"], 4)},
        tags=_tags(source, seen),
        catalog_objects=_matches(catalog.get(source.object_id), ra, dec),
        old_id=_FIRST_OLD_ID + index,
    )


def _letters(index: int) -> str:
    """Return five letters that count."""
    out = ""
    for _ in range(5):
        index, rest = divmod(index, len(_LETTERS))
        out = _LETTERS[rest] + out
    return out


def _history(records: Sequence[dict[str, Any]]) -> list[LocusAlert]:
    """Return all detections and upper limits of an object, the oldest first."""
    images = {record["candidate"]["candid"]: record for record in records}
    newest = records[-1]
    found = {}
    for entry in [*(newest["prv_candidates"] or ()), *(record["candidate"] for record in records)]:
        mjd, candid = entry["jd"] - JD_OF_MJD_0, entry["candid"]
        kind, number = ("candidate", candid) if candid is not None else ("upper_limit", entry["pid"])
        known = {
            "ant_mjd": mjd,
            "ant_survey": 1 if candid is not None else 2,
            "ant_passband": _PASSBANDS[entry["fid"]],
            "ant_maglim": entry["diffmaglim"],
        }
        if candid is not None:
            known |= {
                "ant_ra": entry["ra"],
                "ant_dec": entry["dec"],
                "ant_mag": entry["magpsf"],
                "ant_magerr": entry["sigmapsf"],
                "ztf_object_id": newest["objectId"],
            }
        own = {f"ztf_{key}": value for key, value in entry.items() if value is not None}
        record = images.get(candid)
        thumbnails = (
            {kind: record[key]["stampData"] for kind, key in _CUTOUTS.items()} if record is not None else {}
        )
        found[f"ztf_{kind}:{number}"] = LocusAlert(f"ztf_{kind}:{number}", mjd, known | own, thumbnails)
    return sorted(found.values(), key=lambda alert: alert.mjd)


def _internal(
    index: int,
    name: str,
    source: SkyObject,
    history: Sequence[LocusAlert],
    seen: Sequence[LocusAlert],
) -> dict[str, Any]:
    survey: dict[str, Any] = {"ztf": {"id": [name]}}
    if source.kind == "asteroid":
        survey["lsst"] = {"dia_object_id": [], "ss_object_id": [str(source.object_id)]}
    elif index % 3 == 0:
        survey["lsst"] = {"dia_object_id": [str(313_800_000_000_000_000 + index)], "ss_object_id": []}
    properties = {
        "ztf_object_id": name,
        "num_alerts": len(history),
        "num_mag_values": len(seen),
        "survey": survey,
    }
    brightest = min(seen, key=lambda alert: float(alert.properties["ant_mag"]))
    for which, alert in (("newest", seen[-1]), ("brightest", brightest), ("oldest", seen[0])):
        properties[f"{which}_alert_id"] = alert.alert_id
        properties[f"{which}_alert_magnitude"] = alert.properties["ant_mag"]
        properties[f"{which}_alert_observation_time"] = alert.mjd
    if source.kind == "asteroid":
        properties["ztf_ssnamenr"] = source.object_id
    return properties


def _tags(source: SkyObject, seen: Sequence[LocusAlert]) -> list[str]:
    tags = []
    if source.host is not None:
        tags.append("extragalactic")
        if source.host.dx_arcsec**2 + source.host.dy_arcsec**2 < _NUCLEAR_ARCSEC**2:
            tags.append("nuclear_transient")
    else:
        tags.append("solar_system" if source.kind == "asteroid" else "variable_star")
    if min(alert.properties["ant_mag"] for alert in seen) < _BRIGHT_MAG:
        tags.append("high_snr")
    return tags


# Catalogs --------------------------------------------------------------------------------------------------------------


def _catalog(objects: Sequence[SkyObject], seed: int) -> dict[str, dict[str, Any]]:
    """Return what the reference catalog has of each object, by the object's name."""
    from nuncius.sandbox.sky.reference import synthetic_catalog

    known = [source for source in objects if source.kind != "asteroid"]
    table = synthetic_catalog(seed=seed, objects=len(objects), others=0)
    entries = {}
    for source, row in zip(known, table, strict=True):
        galaxy = source.host is not None
        properties = {name: row[name].item() for name in table.colnames}
        entries[source.object_id] = {
            "catalog_name": "2mass_xsc" if galaxy else "gaia_dr3_gaia_source",
            "radius": (20.0 if galaxy else 2.0) / 3600,
            "properties": properties,
        }
    return entries


def _matches(entry: Mapping[str, Any] | None, ra: float, dec: float) -> list[dict[str, Any]]:
    from nuncius.sky import separation_arcsec

    if entry is None:
        return []
    there = entry["properties"]
    number = str(there["source_id"])
    match = {
        "id": f"{entry['catalog_name']}:{number}",
        "object_id": number,
        "catalog_name": entry["catalog_name"],
        "ra": there["ra"],
        "dec": there["dec"],
        "radius": entry["radius"],
        "properties": dict(there),
        "object_name": number,
        "extra": {"separation": float(separation_arcsec(ra, dec, there["ra"], there["dec"]))},
    }
    return [match] if match["extra"]["separation"] <= 3600 * entry["radius"] else []
