"""What the tests of the penquins interface share: an archive, and queries for it."""

from __future__ import annotations

import builders
from nuncius.alerts import Alert
from nuncius.archives import open_archive

CANDIDS = [1447210100015015000 + n for n in range(5)]  # of the documented object
OBJECT, POSITION = "ZTF20acfkzcg", (115.7697847, 50.2887778)
SOURCES, SOURCES_AT = "ZTF_sources_20210401", (281.15902595, -4.4160933)
OTHERS = 25  # alerts of other objects, a degree apart


def fill(path):
    """Make the archive: two surveys' worth of catalogs and ten sources at growing distances from a position."""
    from astropy.table import Table

    stamp = builders.fits_file(builders.pixels(63))
    cutouts = {
        f"cutout{kind}": {"fileName": f"{kind}.fits.gz", "stampData": stamp}
        for kind in ("Science", "Template", "Difference")
    }
    packets = [
        builders.ztf(
            objectId=OBJECT, candid=candid, candidate={**place(*POSITION), "candid": candid}, **cutouts
        )
        for candid in CANDIDS
    ]
    for n in range(OTHERS):
        candid = 2000000000000000000 + n
        packets.append(
            builders.ztf(
                objectId=f"ZTF21other{n:02d}",
                candid=candid,
                candidate={**place(10.0 + n, 20.0), "candid": candid},
                **cutouts,
            )
        )
    arcsec = [0.1 * n for n in (5, 3, 9, 1, 7, 2, 8, 4, 10, 6)]
    sources = Table(
        {
            "ra": [SOURCES_AT[0]] * 10,
            "dec": [SOURCES_AT[1] + d / 3600 for d in arcsec],
            "number": [round(d * 10) for d in arcsec],
        }
    )
    with open_archive(path) as archive:
        archive.ingest([Alert.from_bytes(packet) for packet in packets], progress=False)
        archive.load_catalog(SOURCES, sources, progress=False)
        archive.load_catalog("Gaia_EDR3", sources, progress=False)


def place(ra, dec):
    return {"ra": ra, "dec": dec}


def entry(box, **more):
    """Return what a program writes for an instance."""
    return {"protocol": "http", "host": box.host, "port": box.port, "token": box.token, **more}


def find(**condition):
    return {
        "query_type": "find",
        "query": {"catalog": "ZTF_alerts", "filter": condition, "projection": {"_id": 0, "candid": 1}},
    }


def cone(radec, radius=2, **catalogs):
    return {
        "query_type": "cone_search",
        "query": {
            "object_coordinates": {
                "cone_search_radius": radius,
                "cone_search_unit": "arcsec",
                "radec": radec,
            },
            "catalogs": catalogs or {"ZTF_alerts": {"filter": {}, "projection": {"_id": 0, "candid": 1}}},
        },
    }


def queries_of(box):
    """Return the types of the queries that arrived."""
    return [request.query_type for request in box.requests if request.path == "/api/queries"]
