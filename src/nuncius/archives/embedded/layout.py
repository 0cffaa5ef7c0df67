"""The layout of an archive's file: its tables, and what a catalog may be called.

This is version 3. The table ``catalogs`` names the catalogs and their kind: 'alerts' or 'catalog'. For each catalog of
alerts, such as ZTF_alerts, four tables:

- ``ZTF_alerts``: a row an alert. Columns that are asked for most are lifted out of the document; `hpx` is the HEALPix
  cell of the position (nested, order 29); `digest` tells a redelivery from a revision.
- ``ZTF_alerts:images``: the cutouts. Those of an alert whose packet is kept are not there a second time if the packet
  has them as they are: `in_packet` lists them as JSON, ``[field, file name, first byte, number of bytes]`` each.
- ``ZTF_alerts:points``: the histories. A row has entries of one list of an object, in lines: a line of `point` tells an
  entry apart from the others of the list, that of `document` is the entry, that of `extras` what JSON can't hold of it.
  `mjd` and `last_mjd` are their earliest and latest time, the latter infinite where one has none and null in
  rows of earlier layouts, which hold one entry. However many alerts
  repeat an entry, it is written once; should it stand there twice, since two processes wrote it, the first one counts.
- ``ZTF_alerts:revisions``: earlier versions of alerts that came again with other content.

A reference catalog, such as Gaia_EDR3, is one table, whose columns are called as those of alerts, so that the same
queries serve both. While it is loaded its name is another (``Gaia_EDR3:loading:…``), which no catalog can have.

Layout 1 had no kinds; layouts 1 and 2 had no `in_packet`, no `last_mjd`, and one entry of a history in each row. Files of
them are read as they are, and brought to layout 3 when they are opened for writing.
"""

from __future__ import annotations

import re

from nuncius.errors import ConfigurationError

VERSION = 3

CATALOG_TABLES = """
CREATE TABLE "{name}" (
    id INTEGER PRIMARY KEY,
    _id TEXT NOT NULL UNIQUE,
    alert_id,
    object_id TEXT,
    mjd REAL,
    ra REAL,
    dec REAL,
    hpx INTEGER,
    received REAL NOT NULL,
    digest BLOB NOT NULL,
    images INTEGER NOT NULL,
    annotations TEXT,
    document TEXT NOT NULL,
    extras TEXT,
    packet BLOB,
    in_packet TEXT
);
CREATE INDEX "{name}:by_object" ON "{name}" (object_id);
CREATE INDEX "{name}:by_alert" ON "{name}" (alert_id);
CREATE INDEX "{name}:by_place" ON "{name}" (hpx, ra, dec);
CREATE INDEX "{name}:by_time" ON "{name}" (mjd);
CREATE TABLE "{name}:images" (
    alert INTEGER NOT NULL,
    field TEXT NOT NULL,
    file_name TEXT,
    data BLOB NOT NULL,
    PRIMARY KEY (alert, field)
);
CREATE TABLE "{name}:points" (
    object_id TEXT NOT NULL,
    list TEXT NOT NULL,
    point TEXT NOT NULL,
    mjd REAL,
    last_mjd REAL,
    document TEXT NOT NULL,
    extras TEXT
);
CREATE INDEX "{name}:points_by_object" ON "{name}:points" (object_id, list);
CREATE TABLE "{name}:revisions" (
    alert INTEGER NOT NULL,
    digest BLOB NOT NULL,
    received REAL NOT NULL,
    document TEXT NOT NULL,
    extras TEXT,
    packet BLOB,
    PRIMARY KEY (alert, digest)
);
INSERT INTO catalogs (name, kind) VALUES ('{name}', 'alerts');
"""
# An `_id` may be a number here, as in Kowalski's Gaia_EDR3, so its column has no type that would change it. What is
# indexed stands in REFERENCE_INDEXES, for a table is filled faster without.
REFERENCE_TABLE = """
CREATE TABLE "{name}" (
    id INTEGER PRIMARY KEY,
    _id NOT NULL,
    alert_id,
    object_id TEXT,
    mjd REAL,
    ra REAL,
    dec REAL,
    hpx INTEGER,
    images INTEGER NOT NULL DEFAULT 0,
    annotations TEXT,
    document TEXT NOT NULL,
    extras TEXT
)
"""
REFERENCE_INDEXES = (
    'CREATE UNIQUE INDEX "{name}:by_id" ON "{name}" (_id)',
    'CREATE INDEX "{name}:by_place" ON "{name}" (hpx, ra, dec)',
)
# No colon: it sets the tables of a catalog apart from their catalog.
_REFERENCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_RESERVED_NAME = re.compile(r"sqlite_.*|catalogs|.*_alerts|.*_aux", re.IGNORECASE)


def check_reference_name(name: str) -> None:
    """Refuse what can't be the name of a reference catalog.

    Raises
    ------
    ConfigurationError
        If it can't.
    """
    if not isinstance(name, str) or not _REFERENCE_NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} can't be the name of a catalog: letters, digits, _ and - make one, such as 'Gaia_EDR3'"
        )
    if _RESERVED_NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} can't be the name of a reference catalog: names that end in _alerts or _aux are those of alerts, "
            "and 'catalogs' and 'sqlite_…' those of the file itself"
        )
