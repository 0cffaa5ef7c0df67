"""Packets shaped like those of ZTF's schema 4.01: the writer schema and the Avro container.

Names, types and order of the fields are those that the survey's own packets have; the texts are ours.
"""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any

from nuncius.alerts.packets.ocf import write_long

SCHEMA_VERSION = "4.01"
_SYNC = b"nuncius sandbox!"  # any 16 bytes; the survey's packets have one constant too

# One field a line: name, type and meaning. A question mark makes the type nullable.
_CANDIDATE = """
jd double Julian Date at the start of the exposure, UTC [days]
fid int number of the filter: 1 is g, 2 is r, 3 is i
pid long number of the processed science image
diffmaglim float? magnitude of a 5-sigma point source in the difference image [AB mag]
pdiffimfilename string? file name of the difference image (science minus reference)
programpi string? who leads the observing programme
programid int observing programme: 1 public, 2 partnership, 3 Caltech
candid long number of this candidate, which no other one has
isdiffpos string t or 1 if the source is brighter than in the reference image, else f or 0
tblid long? row of the candidate in the source table of its image
nid int? number of the night since 2017 January 1
rcid int? readout channel (quadrant of the mosaic), 0 to 63
field int? number of the field on the survey's grid
xpos float? column of the candidate in its quadrant [pixels]
ypos float? row of the candidate in its quadrant [pixels]
ra double right ascension, J2000 [deg]
dec double declination, J2000 [deg]
magpsf float magnitude of the difference from PSF photometry, without its sign [mag]
sigmapsf float 1-sigma error of magpsf [mag]
chipsf float? reduced chi-square of the PSF fit
magap float? magnitude of the difference in an aperture 8 pixels across [mag]
sigmagap float? 1-sigma error of magap [mag]
distnr float? distance to the nearest source of the reference image [arcsec]
magnr float? magnitude of that reference source [mag]
sigmagnr float? 1-sigma error of magnr [mag]
chinr float? chi of the reference source's PSF fit
sharpnr float? sharpness of the reference source; 0 for a point
sky float? background around the candidate in the difference image [DN]
magdiff float? aperture minus PSF magnitude [mag]
fwhm float? width of the candidate at half its maximum [pixels]
classtar float? how star-like the profile looks, 0 to 1
mindtoedge float? distance to the nearest edge of the quadrant [pixels]
magfromlim float? diffmaglim minus magap [mag]
seeratio float? seeing of the difference image over that of the reference
aimage float? rms of the profile along its major axis [pixels]
bimage float? rms of the profile along its minor axis [pixels]
aimagerat float? aimage over fwhm
bimagerat float? bimage over fwhm
elong float? aimage over bimage
nneg int? negative pixels in a box of 5 by 5 around the candidate
nbad int? flagged pixels in a box of 5 by 5 around the candidate
rb float? real-bogus score of the random forest, 0 to 1; higher is more real
ssdistnr float? distance to the nearest known solar system object, -999 if none [arcsec]
ssmagnr float? predicted V magnitude of that object, -999 if none [mag]
ssnamenr string? name of that object, null if none
sumrat float? sum of the pixels over the sum of their absolute values
magapbig float? magnitude of the difference in an aperture 18 pixels across [mag]
sigmagapbig float? 1-sigma error of magapbig [mag]
ranr double right ascension of the nearest reference source, J2000 [deg]
decnr double declination of the nearest reference source, J2000 [deg]
sgmag1 float? g magnitude of the closest PS1 source within 30 arcsec [mag]
srmag1 float? r magnitude of the closest PS1 source [mag]
simag1 float? i magnitude of the closest PS1 source [mag]
szmag1 float? z magnitude of the closest PS1 source [mag]
sgscore1 float? star-galaxy score of the closest PS1 source; 1 is a star
distpsnr1 float? distance to the closest PS1 source [arcsec]
ndethist int detections here since the survey began, with weak ones
ncovhist int times that this position was observed since the survey began
jdstarthist double? Julian Date of the first detection here [days]
jdendhist double? Julian Date of the latest detection here [days]
scorr double? peak signal-to-noise in the matched-filtered difference image
tooflag int? 1 if the exposure answered a target of opportunity
objectidps1 long? PS1 number of the closest source
objectidps2 long? PS1 number of the second closest source
sgmag2 float? g magnitude of the second closest PS1 source [mag]
srmag2 float? r magnitude of the second closest PS1 source [mag]
simag2 float? i magnitude of the second closest PS1 source [mag]
szmag2 float? z magnitude of the second closest PS1 source [mag]
sgscore2 float? star-galaxy score of the second closest PS1 source
distpsnr2 float? distance to the second closest PS1 source [arcsec]
objectidps3 long? PS1 number of the third closest source
sgmag3 float? g magnitude of the third closest PS1 source [mag]
srmag3 float? r magnitude of the third closest PS1 source [mag]
simag3 float? i magnitude of the third closest PS1 source [mag]
szmag3 float? z magnitude of the third closest PS1 source [mag]
sgscore3 float? star-galaxy score of the third closest PS1 source
distpsnr3 float? distance to the third closest PS1 source [arcsec]
nmtchps int number of PS1 sources within 30 arcsec
rfid long number of the reference image
jdstartref double Julian Date of the earliest exposure in the reference image [days]
jdendref double Julian Date of the latest exposure in the reference image [days]
nframesref int exposures that the reference image was made of
rbversion string version of the random forest
dsnrms float? signal over noise of the pixels in the difference image
ssnrms float? signal over noise of the pixels in the science image
dsdiff float? dsnrms minus ssnrms
magzpsci float? zero point of the science image [mag]
magzpsciunc float? error of the zero point [mag]
magzpscirms float? scatter of the stars that gave the zero point [mag]
nmatches int stars that gave the zero point
clrcoeff float? colour coefficient of the calibration
clrcounc float? error of the colour coefficient
zpclrcov float? covariance of zero point and colour coefficient
zpmed float? median of the zero points of single stars [mag]
clrmed float? median colour of the calibration stars [mag]
clrrms float? scatter of the colours of the calibration stars [mag]
neargaia float? distance to the nearest Gaia source [arcsec]
neargaiabright float? distance to the nearest Gaia source brighter than 14 mag, -999 if none [arcsec]
maggaia float? G magnitude of the nearest Gaia source [mag]
maggaiabright float? G magnitude of the nearest bright Gaia source, -999 if none [mag]
exptime float? exposure time [s]
drb float? real-bogus score of the neural network, 0 to 1; higher is more real
drbversion string version of the neural network
"""

_FORCED = """
field int?
rcid int?
fid int
pid long
rfid long
sciinpseeing float? seeing of the science image [arcsec]
scibckgnd float? background of the science image [DN]
scisigpix float? noise of a pixel of the science image [DN]
magzpsci float?
magzpsciunc float?
magzpscirms float?
clrcoeff float?
clrcounc float?
exptime float?
adpctdif1 float? misalignment of the astrometry along the first axis [percent]
adpctdif2 float? misalignment of the astrometry along the second axis [percent]
diffmaglim float?
programid int
jd double
forcediffimflux float? flux forced at the object's position, -99999 if it failed [DN]
forcediffimfluxunc float? 1-sigma error of the flux, -99999 if it failed [DN]
procstatus string? 0 if the measurement is good, else why it is not
distnr float?
ranr double
decnr double
magnr float?
sigmagnr float?
chinr float?
sharpnr float?
"""

# Earlier candidates have these fields of a candidate. What an upper limit lacks is nullable there.
_EARLIER_TAIL = ("scorr", "magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc", "rbversion")
_ABSENT_IN_LIMITS = frozenset({"candid", "isdiffpos", "ra", "dec", "magpsf", "sigmapsf", "ranr", "decnr"})


def _field(name: str, avro_type: str, doc: str) -> dict[str, Any]:
    if not avro_type.endswith("?"):
        return {"name": name, "type": avro_type, "doc": doc}
    return {"name": name, "type": ["null", avro_type.rstrip("?")], "doc": doc, "default": None}


def _record(name: str, doc: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe one of the records inside of an alert."""
    names = {"name": name, "namespace": "ztf.alert"}
    return {"type": "record", **names, "version": SCHEMA_VERSION, "doc": doc, "fields": fields}


@cache
def _candidate_lines() -> dict[str, tuple[str, str]]:
    lines = (line.split(None, 2) for line in _CANDIDATE.strip().splitlines())
    return {name: (avro_type, doc) for name, avro_type, doc in lines}


@cache
def earlier_names() -> tuple[str, ...]:
    """Return the names of the fields of an earlier candidate, in order."""
    names = list(_candidate_lines())
    return (*names[: names.index("decnr") + 1], *_EARLIER_TAIL)


def _earlier_fields() -> list[dict[str, Any]]:
    fields = []
    for name in earlier_names():
        avro_type, doc = _candidate_lines()[name]
        fields.append(_field(name, avro_type + "?" * (name in _ABSENT_IN_LIMITS), doc))
    return fields


def _forced_fields() -> list[dict[str, Any]]:
    fields = []
    for line in _FORCED.strip().splitlines():
        name, avro_type, *doc = line.split(None, 2)
        fields.append(_field(name, avro_type, doc[0] if doc else _candidate_lines()[name][1]))
    return fields


def ztf_schema() -> dict[str, Any]:
    """Return the writer schema of an alert packet, as plain Python data.

    Examples
    --------
    >>> schema = ztf_schema()
    >>> schema["name"], [field["name"] for field in schema["fields"]][:4]
    ('ztf.alert', ['schemavsn', 'publisher', 'objectId', 'candid'])
    """
    candidate = [_field(name, *rest) for name, rest in _candidate_lines().items()]
    earlier = _record("prv_candidate", "an earlier detection or an upper limit", _earlier_fields())
    forced = _record("fp_hist", "forced photometry of an earlier exposure", _forced_fields())
    cutout = _record(
        "cutout",
        "a small image around the candidate",
        [_field("fileName", "string", "name of the file"), _field("stampData", "bytes", "gzipped FITS file")],
    )

    def optional(name: str, avro_type: Any, doc: str) -> dict[str, Any]:
        return {"name": name, "type": ["null", avro_type], "doc": doc, "default": None}

    fields = [
        _field("schemavsn", "string", "version of this schema"),
        _field("publisher", "string", "who made the packet"),
        _field("objectId", "string", "name of the object that the candidate belongs to"),
        _field("candid", "long", "number of the candidate"),
        {
            "name": "candidate",
            "type": _record("candidate", "what was detected", candidate),
            "doc": "the detection that caused the alert",
        },
        optional("prv_candidates", {"type": "array", "items": earlier}, "the last 30 days at this position"),
        optional("fp_hists", {"type": "array", "items": forced}, "forced photometry, newest first"),
        optional("cutoutScience", cutout, "the exposure"),
        optional("cutoutTemplate", "ztf.alert.cutout", "the reference image"),
        optional("cutoutDifference", "ztf.alert.cutout", "the difference of both"),
    ]
    return {
        "type": "record",
        "name": "ztf.alert",
        "version": SCHEMA_VERSION,
        "doc": "an alert in the form of ZTF's, of a sky that does not exist",
        "fields": fields,
    }


class PacketWriter:
    """Writes alerts as Avro object containers, one record each, without compression."""

    def __init__(self) -> None:
        from fastavro import parse_schema

        schema = ztf_schema()
        self._schema = parse_schema(schema)
        metadata = {"avro.schema": json.dumps(schema).encode(), "avro.codec": b"null"}
        entries = b"".join(_bytes(key.encode()) + _bytes(value) for key, value in metadata.items())
        self._header = b"Obj\x01" + write_long(len(metadata)) + entries + write_long(0) + _SYNC

    def write(self, record: dict[str, Any]) -> bytes:
        """Return the packet of one alert."""
        from fastavro import schemaless_writer

        buffer = io.BytesIO()
        schemaless_writer(buffer, self._schema, record)
        body = buffer.getvalue()
        return b"".join((self._header, write_long(1), _bytes(body), _SYNC))


def _bytes(value: bytes) -> bytes:
    return write_long(len(value)) + value
