"""What the real antares-client does: one order on standard input, what came of it on standard output, both in JSON."""

import json
import sys

from antares_client import StreamingClient, search
from antares_client.exceptions import AntaresException
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord


def locus_of(locus):
    return {
        "id": locus.locus_id,
        "ra": locus.ra,
        "dec": locus.dec,
        "properties": locus.properties,
        "tags": locus.tags,
        "catalogs": locus.catalogs,
    }


def open_client(order):
    return StreamingClient(
        order["topics"],
        api_key=order["key"],
        api_secret=order["secret"],
        ssl_ca_location=order["ca"],
        bootstrap_server=order["server"],
        group=order["group"],
    )


def consume(order):
    """Read some loci, commit, and close."""
    with open_client(order) as client:
        found = [[topic, locus_of(locus)] for topic, locus in client.iter(limit=order["limit"])]
        client.commit()
    return found


def poll(order):
    """Ask once."""
    with open_client(order) as client:
        try:
            topic, locus = client.poll(timeout=order["timeout"])
        except AntaresException as error:
            return {"error": str(error)}
    return {"topic": topic, "locus": locus and locus_of(locus)}


def lazy(order):
    """What a locus of the stream fetches when it is touched."""
    with open_client(order) as client:
        _, locus = client.poll()
    return {
        "id": locus.locus_id,
        "alerts": [[alert.alert_id, alert.mjd, alert.processed_at.isoformat()] for alert in locus.alerts],
        "columns": list(locus.lightcurve.columns),
        "mags": locus.lightcurve["ant_mag"].dropna().tolist(),
        "catalogs": sorted(locus.catalog_objects),
        "times": len(locus.timeseries),
    }


def find(order):
    return [locus_of(locus) for locus in search.search({"query": order["query"]}, limit=order["page"])]


def cone(order):
    center = SkyCoord(order["ra"], order["dec"], unit="deg")
    return [locus_of(locus) for locus in search.cone_search(center, Angle(order["radius"] * u.deg))]


def identify(order):
    """Look a locus up by all its names."""
    found = {
        "id": search.get_by_id(order["id"]),
        "ztf": search.get_by_ztf_object_id(order["ztf"]),
        "lsst": search.get_by_lsst_dia_object_id(order["lsst"]),
        "asteroid": search.get_by_lsst_ss_object_id(order["asteroid"]),
        "none": search.get_by_id("ANT1999none"),
    }
    return {name: locus and locus_of(locus) for name, locus in found.items()}


def thumbnails(order):
    return {
        kind: [found["file_name"], found["blob"].hex()]
        for kind, found in search.get_thumbnails(order["alert_id"]).items()
    }


def catalogs(order):
    return {
        "tags": search.get_available_tags(),
        "samples": {name: len(found) for name, found in search.get_catalog_samples(4).items()},
        "there": search.catalog_search(order["ra"], order["dec"]),
        "matches": search.get_locus_catalog_matches(order["id"]),
        "some": len(search.get_random_locus_ids(15)),
    }


def waves(order):
    """Where a locus lies on the sky map of its event, as the client works it out."""
    locus = search.get_by_id(order["id"])
    name = order["event"]
    notice = locus.grav_wave_events_data[name]
    level, area = notice.get_probability_contour_level_and_area(locus.coordinates)
    same = search.get_grav_wave_notice(name, notice.notice_datetime)
    return {
        "level": float(level),
        "area": float(area.value),
        "stated": [event for event in locus.alerts[-1].grav_wave_events if event["gracedb_id"] == name],
        "same": same.id == notice.id == search.get_latest_grav_wave_notice(name).id,
    }


ACTIONS = {
    action.__name__: action
    for action in (consume, poll, lazy, find, cone, identify, thumbnails, catalogs, waves)
}

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(ACTIONS[asked["action"]](asked), sys.stdout)
