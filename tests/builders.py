"""Packets in the shape of each survey, written by encoders that nuncius does not use for reading.

Values are encoded by fastavro, pymongo, json and astropy. Object containers are put together by hand where their layout
matters: the order of the metadata, the sync marker, the blocks, and schemas that fastavro refuses to write.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import TYPE_CHECKING, Any

import bson
import cramjam
import fastavro
import numpy as np
from astropy.io import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SYNC = bytes(range(16))
JD = 2459000.75
MJD = 59000.25
TAI_UTC_S = 37.0


# Avro, by hand --------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """Write an Avro long."""
    zigzag = value * 2 if value >= 0 else -value * 2 - 1
    result = bytearray()
    while zigzag >= 128:
        result.append(zigzag % 128 + 128)
        zigzag //= 128
    result.append(zigzag)
    return bytes(result)


def datum(schema: Any, value: Any) -> bytes:
    """Write one value without a container."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


def header(
    schema: Any,
    *,
    codec: str | None = "null",
    schema_first: bool = True,
    more: dict[str, bytes] | None = None,
    sized: bool = False,
) -> bytes:
    """Write what stands before the sync marker; `schema` may be the text itself."""
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    pairs = [(b"avro.schema", text)]
    if codec is not None:
        pairs.append((b"avro.codec", codec.encode()))
    if not schema_first:
        pairs.reverse()
    pairs += [(key.encode(), value) for key, value in (more or {}).items()]
    body = b"".join(varint(len(key)) + key + varint(len(value)) + value for key, value in pairs)
    # A negative count announces the size of the block of pairs, for readers that want to skip it.
    count = varint(-len(pairs)) + varint(len(body)) if sized else varint(len(pairs))
    return b"Obj\x01" + count + body + varint(0)


def block(data: bytes, count: int, sync: bytes = SYNC) -> bytes:
    """Write one block of a container."""
    return varint(count) + varint(len(data)) + data + sync


def container(
    schema: Any, data: Sequence[bytes], *, sync: bytes = SYNC, per_block: int = 1, **options: Any
) -> bytes:
    """Write a container of encoded records with codec null."""
    parts = [data[start : start + per_block] for start in range(0, len(data), per_block)]
    return (
        header(schema, **options) + sync + b"".join(block(b"".join(part), len(part), sync) for part in parts)
    )


def packed_container(schema: Any, records: Iterable[Any], *, codec: str, sync_interval: int = 16000) -> bytes:
    """Write a container with any codec; fastavro writes those whose modules it finds, the other two are packed here."""
    if codec in {"null", "deflate", "bzip2"}:
        out = io.BytesIO()
        fastavro.writer(out, schema, list(records), codec=codec, sync_interval=sync_interval)
        return out.getvalue()
    blocks = b""
    for record in records:
        data = datum(schema, record)
        if codec == "snappy":
            body = bytes(cramjam.snappy.compress_raw(data)) + zlib.crc32(data).to_bytes(4, "big")
        else:
            body = zstd(data)
        blocks += block(body, 1)
    return header(schema, codec=codec) + SYNC + blocks


def framed(schema: Any, value: Any, schema_id: int) -> bytes:
    """Write one record behind a zero byte and the number of its schema."""
    return b"\x00" + schema_id.to_bytes(4, "big") + datum(schema, value)


def zstd(data: bytes) -> bytes:
    """Pack with zstd."""
    return bytes(cramjam.zstd.compress(data))


def zlib_bson(document: dict[str, Any]) -> bytes:
    """Write a BSON document within zlib, as ANTARES sends them."""
    return zlib.compress(bson.encode(document))


def record_type(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Make the schema of a record."""
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": key, "type": kind} for key, kind in fields.items()],
    }


def blank(schema: dict[str, Any]) -> dict[str, Any]:
    """Make a record of zeros, empty texts, and null wherever it is allowed."""
    zeros: dict[str, Any] = {
        "int": 0, "long": 0, "float": 0.0, "double": 0.0, "string": "", "bytes": b"", "boolean": False, "null": None,
    }  # fmt: skip

    def value(kind: Any) -> Any:
        if isinstance(kind, list):
            return None if "null" in kind else value(kind[0])
        if isinstance(kind, str):
            return zeros[kind]
        if kind["type"] == "record":
            return blank(kind)
        return [] if kind["type"] == "array" else value(kind["type"])

    return {item["name"]: value(item["type"]) for item in schema["fields"]}


# Images ---------------------------------------------------------------------------------------------------------------


def pixels(size: int, dtype: str = ">f4", *, holes: int = 0) -> np.ndarray[Any, Any]:
    """Make a square image in which every pixel differs, with a few NaN."""
    image = np.arange(size * size, dtype=dtype).reshape(size, size) / 7
    image.flat[:holes] = np.nan
    return image.astype(dtype)


def fits_file(
    image: np.ndarray[Any, Any], *, packed: bool = True, more: Sequence[np.ndarray[Any, Any]] = ()
) -> bytes:
    """Write an image as a FITS file, gzipped or not, with more images behind it if wanted."""
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(image), *(fits.ImageHDU(extra) for extra in more)]).writeto(out)
    return gzip.compress(out.getvalue(), mtime=0) if packed else out.getvalue()


# ZTF ------------------------------------------------------------------------------------------------------------------


def ztf_schema(version: str = "4.01", *, fp_hists: bool | None = None) -> dict[str, Any]:
    """Make ZTF's schema: 3.x puts null last in unions and has nested names, 4.x puts it first and has dotted ones."""
    old = version.startswith("3")

    def named(name: str, fields: dict[str, Any]) -> dict[str, Any]:
        return (
            record_type(name, fields) | {"namespace": "ztf.alert"}
            if old
            else record_type(f"ztf.alert.{name}", fields)
        )

    def maybe(kind: Any) -> list[Any]:
        return [kind, "null"] if old else ["null", kind]

    shared = {"jd": "double", "fid": "int", "pid": "long", "diffmaglim": maybe("float"),
              "pdiffimfilename": maybe("string"), "programid": "int"}  # fmt: skip
    candidate = {
        **shared, "candid": "long", "isdiffpos": "string", "field": maybe("int"), "rcid": maybe("int"),
        "ra": "double", "dec": "double", "magpsf": "float", "sigmapsf": "float", "magap": maybe("float"),
        "rb": maybe("float"), "ssdistnr": maybe("float"), "ssmagnr": maybe("float"), "ssnamenr": maybe("string"),
        "objectidps1": maybe("long"), "sgscore1": maybe("float"), "rbversion": "string",
        "magzpsci": maybe("float"),
    }  # fmt: skip
    if version != "3.2":
        candidate |= {"drb": maybe("float"), "drbversion": "string"}
    earlier = {
        **shared, "candid": maybe("long"), "isdiffpos": maybe("string"), "field": maybe("int"), "rcid": maybe("int"),
        "ra": maybe("double"), "dec": maybe("double"), "magpsf": maybe("float"), "sigmapsf": maybe("float"),
        "rb": maybe("float"), "magzpsci": maybe("float"), "rbversion": "string",
    }  # fmt: skip
    forced = {
        "field": maybe("int"), "rcid": maybe("int"), "fid": "int", "pid": "long", "rfid": "long", "jd": "double",
        "diffmaglim": maybe("float"), "magzpsci": maybe("float"), "procstatus": maybe("string"),
        "forcediffimflux": maybe("float"), "forcediffimfluxunc": maybe("float"),
        "ranr": "double", "decnr": "double",
    }  # fmt: skip
    cutout = named("cutout", {"fileName": "string", "stampData": "bytes"})
    fields: dict[str, Any] = {
        "schemavsn": "string", "publisher": "string", "objectId": "string", "candid": "long",
        "candidate": named("candidate", candidate),
        "prv_candidates": maybe({"type": "array", "items": named("prv_candidate", earlier)}),
    }  # fmt: skip
    if (not old) if fp_hists is None else fp_hists:
        fields["fp_hists"] = maybe({"type": "array", "items": named("fp_hist", forced)})
    fields |= {
        "cutoutScience": maybe(cutout),
        "cutoutTemplate": maybe("ztf.alert.cutout"),
        "cutoutDifference": maybe("ztf.alert.cutout"),
    }
    schema = record_type("alert", fields) | {"namespace": "ztf"} if old else record_type("ztf.alert", fields)
    return schema | {"version": version}


def ztf_record(
    version: str = "4.01", *, candidate: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    """Make a ZTF packet's values."""
    schema = ztf_schema(version)
    record = blank(schema)
    record |= {"schemavsn": version, "publisher": "ZTF (www.ztf.caltech.edu)", "objectId": "ZTF20abcdefg",
               "candid": 2475433850215010007}  # fmt: skip
    record["candidate"] |= {
        "jd": JD, "fid": 2, "pid": 2475433850215, "diffmaglim": 20.5, "programid": 1, "candid": 2475433850215010007,
        "isdiffpos": "t", "ra": 150.25, "dec": -20.5, "magpsf": 18.5, "sigmapsf": 0.0625, "rb": 0.5,
        "rbversion": "t17_f5_c3", "magzpsci": 26.25,
    }  # fmt: skip
    if version != "3.2":
        record["candidate"] |= {"drb": 0.875, "drbversion": "d6_m7"}
    record["candidate"] |= candidate or {}
    return record | top


def ztf_earlier(version: str = "4.01", **values: Any) -> dict[str, Any]:
    """Make one entry of `prv_candidates`: an upper limit unless values of a detection are given."""
    entry = blank(_items(ztf_schema(version), "prv_candidates"))
    return (
        entry
        | {"jd": JD - 3, "fid": 2, "programid": 1, "diffmaglim": 20.25, "rbversion": "t17_f5_c3"}
        | values
    )


def ztf_forced(**values: Any) -> dict[str, Any]:
    """Make one entry of `fp_hists`."""
    entry = blank(_items(ztf_schema("4.01"), "fp_hists"))
    return entry | {"jd": JD - 1, "fid": 1, "procstatus": "0", "forcediffimflux": 100.0, "forcediffimfluxunc": 5.0,
                    "magzpsci": 26.25, "diffmaglim": 20.5} | values  # fmt: skip


def ztf(version: str = "4.01", *, candidate: dict[str, Any] | None = None, layout: dict[str, Any] | None = None,
        **top: Any) -> bytes:  # fmt: skip
    """Make a ZTF packet."""
    schema = ztf_schema(version)
    return container(
        schema, [datum(schema, ztf_record(version, candidate=candidate, **top))], **(layout or {})
    )


def _items(schema: dict[str, Any], name: str) -> Any:
    kind = next(item["type"] for item in schema["fields"] if item["name"] == name)
    array = next(branch for branch in kind if branch != "null") if isinstance(kind, list) else kind
    return array["items"]


# WINTER, TURBO, PGIR, DECam -------------------------------------------------------------------------------------------


def winter(
    *, candidate: dict[str, Any] | None = None, sgmag1: tuple[float, float] = (19.5, 21.5), **top: Any
) -> bytes:
    """Make a WINTER packet, whose schema has the field `sgmag1` twice."""
    fields = {
        "candid": "long", "jd": "double", "fid": "int", "isdiffpos": "boolean", "field": "int", "ra": "double",
        "dec": "double", "diffmaglim": ["float", "null"], "magpsf": "float", "sigmapsf": "float",
        "rb": ["float", "null"], "sgmag1": ["float", "null"], "second": ["float", "null"],
        "sgmag2": ["float", "null"], "tmobjectid1": ["string", "null"],
    }  # fmt: skip
    earlier = {"candid": ["long", "null"], "progname": "string", "jd": "double", "fid": "int", "isdiffpos": "boolean",
               "fieldid": "int", "ra": "double", "dec": "double", "magpsf": "float", "sigmapsf": "float"}  # fmt: skip
    schema = record_type(
        "winter.alert",
        {
            "schemavsn": "string", "publisher": "string", "objectid": "string", "candid": "long",
            "candidate": record_type("winter.alert.candidate", fields),
            "prv_candidates": [{"type": "array", "items": record_type("winter.alert.prv_candidate", earlier)}, "null"],
            "cutout_science": "bytes", "cutout_template": "bytes", "cutout_difference": "bytes",
        },
    )  # fmt: skip
    record = blank(schema) | {"schemavsn": "0.1", "publisher": "WINTER-mirar", "objectid": "WNTR24awati",
                              "candid": 3608694}  # fmt: skip
    record["candidate"] |= {"candid": 3608694, "jd": JD, "fid": 2, "isdiffpos": True, "ra": 262.5, "dec": 7.25,
                            "magpsf": 13.5, "sigmapsf": 0.25, "sgmag1": sgmag1[0], "second": sgmag1[1],
                            "tmobjectid1": "17301234+0715   "} | (candidate or {})  # fmt: skip
    data = datum(schema, record | top)
    text = json.dumps(schema).replace('"second"', '"sgmag1"').encode()
    return container(text, [data])


def turbo(outer: int = 4, *, candidate: dict[str, Any] | None = None, **top: Any) -> bytes:
    """Make a TURBO packet, whose schema has null as the default of fields that can't be null."""
    fields = {"candid": "long", "jd": "double", "fid": "int", "programid": "int", "isdiffpos": ["float"],
              "ra": "double", "dec": "double", "magpsf": "float", "sigmapsf": ["float", "null"],
              "nmtchtm": "int", "psra1": "double", "drb": ["float", "null"]}  # fmt: skip
    earlier = {"candid": ["long", "null"], "jd": "double", "fid": "int", "isdiffpos": ["float"],
               "ra": "double", "dec": "double", "magpsf": "float"}  # fmt: skip
    schema = record_type(
        "alert",
        {
            "schemavsn": "string", "publisher": "string", "objectId": "string", "candid": "long",
            "candidate": record_type("candidate", fields) | {"namespace": "turbo.alert"},
            "prv_candidates": [{"type": "array",
                                "items": record_type("prv_candidate", earlier) | {"namespace": "turbo.alert"}}, "null"],
            "cutoutScience": "bytes", "cutoutTemplate": "bytes", "cutoutDifference": "bytes",
        },
    ) | {"namespace": "turbo"}  # fmt: skip
    record = blank(schema) | {
        "schemavsn": "0.1",
        "publisher": "turbo",
        "objectId": "None.22",
        "candid": outer,
    }
    record["candidate"] |= {"candid": 89, "jd": JD, "fid": 1, "isdiffpos": 1.0, "ra": 35.5, "dec": 14.5,
                            "magpsf": 1.0} | (candidate or {})  # fmt: skip
    data = datum(schema, record | top)
    for part in (schema, schema["fields"][4]["type"]):
        for item in part["fields"]:
            if (
                item["name"] in {"fid", "programid", "nmtchtm", "psra1", "sigmapsf", "drb"}
                or "cutout" in item["name"]
            ):
                item["default"] = None
    return container(schema, [data])


def pgir(
    *, earlier: Sequence[dict[str, Any]] = (), candidate: dict[str, Any] | None = None, **top: Any
) -> bytes:
    """Make a PGIR packet: images first, J band only, history unsorted and with the alert itself."""
    fields = {
        "jd": "double", "diffmaglim": ["float", "null"], "program": ["string", "null"], "candid": "long",
        "isdiffpos": "string", "ra": "double", "dec": "double", "fluxpsf": "float", "magpsf": "float",
        "sigmapsf": "float", "ssdistnr": ["float", "null"], "ssmagnr": ["float", "null"],
        "ssnamenr": ["string", "null"], "drb": ["float", "null"], "drbversion": "string",
    }  # fmt: skip
    entry = {
        "jd": "double", "diffmaglim": ["float", "null"], "candid": ["long", "null"], "isdiffpos": ["string", "null"],
        "ra": ["double", "null"], "dec": ["double", "null"], "magpsf": ["float", "null"],
        "sigmapsf": ["float", "null"], "drb": ["float", "null"],
    }  # fmt: skip
    entry_type = record_type("prv_candidate", entry) | {"namespace": "pgir.alert"}
    schema = record_type(
        "alert",
        {
            "schemavsn": "string", "publisher": "string", "cutoutScience": "bytes", "cutoutTemplate": "bytes",
            "cutoutDifference": "bytes", "objectId": "string", "candid": "long",
            "candidate": record_type("candidate", fields) | {"namespace": "pgir.alert"},
            "prv_candidates": [{"type": "array", "items": entry_type}, "null"],
        },
    ) | {"namespace": "pgir"}  # fmt: skip
    record = blank(schema) | {"schemavsn": "0.1", "publisher": "pgirdps", "objectId": "PGIR21adzgse",
                              "candid": 114449485}  # fmt: skip
    record["candidate"] |= {"jd": JD, "candid": 114449485, "isdiffpos": "1", "ra": 314.25, "dec": 40.125,
                            "magpsf": 12.25, "sigmapsf": 0.125, "ssdistnr": -99.0, "ssmagnr": -99.0,
                            "ssnamenr": "NONE", "drb": 0.75} | (candidate or {})  # fmt: skip
    record["prv_candidates"] = [blank(entry_type) | item for item in earlier]
    return container(schema, [datum(schema, record | top)])


def decam(
    *, candidate: dict[str, Any] | None = None, forced: Sequence[dict[str, Any]] = (), **top: Any
) -> bytes:
    """Make a DECam packet (DESIRT)."""
    fields = {
        "mjd": "double", "band": "string", "ra": "double", "dec": "double", "forcediffimflux": "double",
        "forcediffimfluxunc": "double", "forcediffimmag": "double", "psfFlux": "double", "psfFluxErr": "double",
        "diffmaglim": "double", "isdiffpos": "int", "reliability": ["double", "null"],
    }  # fmt: skip
    entry = {"mjd": "double", "band": "string", "forcediffimflux": ["double", "null"], "psfFlux": ["double", "null"],
             "psfFluxErr": ["double", "null"], "diffmaglim": ["double", "null"],
             "isdiffpos": ["int", "null"]}  # fmt: skip
    entry_type = record_type("desirt.alert.fp_hist", entry)
    schema = record_type(
        "desirt.alert",
        {
            "publisher": "string", "objectId": "string", "candid": "long",
            "candidate": record_type("desirt.alert.candidate", fields),
            "fp_hists": ["null", {"type": "array", "items": entry_type}],
            "cutoutScience": "bytes", "cutoutTemplate": "bytes", "cutoutDifference": "bytes",
        },
    )  # fmt: skip
    record = blank(schema) | {
        "publisher": "DESIRT",
        "objectId": "c4d_260708_015517_xxx_g_dts-1",
        "candid": 12,
    }
    record["candidate"] |= {"mjd": MJD, "band": "g", "ra": 200.5, "dec": -1.25, "forcediffimflux": 1.375251,
                            "forcediffimmag": 23.554, "psfFlux": 1375.251, "psfFluxErr": 50.0, "diffmaglim": 24.5,
                            "isdiffpos": 1, "reliability": 0.625} | (candidate or {})  # fmt: skip
    record["fp_hists"] = [blank(entry_type) | item for item in forced]
    return container(schema, [datum(schema, record | top)])


# LSST -----------------------------------------------------------------------------------------------------------------

LSST_VERSIONS = ("7.4", "8.0", "9.0", "10.0", "11.0")


def lsst_id(version: str) -> int:
    """Return the number under which the schema is registered."""
    major, minor = version.split(".")
    return 100 * int(major) + int(minor)


def lsst_schema(version: str) -> dict[str, Any]:
    """Make Rubin's schema, with the fields that changed from version to version."""
    return _joined(lsst_parts(version), f"lsst.v{version.replace('.', '_')}.alert")


def lsst_parts(version: str) -> dict[str, dict[str, Any]]:
    """Make the records of Rubin's schema, each for a file of its own: by full name, the parts named only."""
    major = int(version.split(".", maxsplit=1)[0])
    space = f"lsst.v{version.replace('.', '_')}"
    stamp = ["null", {"type": "long", "logicalType": "timestamp-millis"}]
    count: Any = "int" if major >= 11 else ["null", "int"]
    source: dict[str, Any] = {
        "diaSourceId": "long", "visit": "long", "detector": "int", "diaObjectId": ["null", "long"],
        "ssObjectId": ["null", "long"], "parentDiaSourceId": ["null", "long"], "midpointMjdTai": "double",
        "ra": "double", "raErr": ["null", "float"], "dec": "double", "decErr": ["null", "float"],
        "psfFlux": ["null", "float"], "psfFluxErr": ["null", "float"], "psfLnL": ["null", "float"],
        "psfNdata": count, "snr": ["null", "float"], "band": ["null", "string"], "reliability": ["null", "float"],
        ("isNegative" if major >= 8 else "is_negative"): ["null", "boolean"],
    }  # fmt: skip
    if major == 8:
        source["time_processed"] = stamp
    elif major >= 9:
        source |= {"timeProcessedMjdTai": "double", "timeWithdrawnMjdTai": ["null", "double"]}
    forced = {
        "diaForcedSourceId": "long", "diaObjectId": "long", "ra": "double", "dec": "double", "visit": "long",
        "detector": "int", "psfFlux": ["null", "float"], "psfFluxErr": ["null", "float"], "midpointMjdTai": "double",
        "band": ["null", "string"],
    }  # fmt: skip
    dia_object: dict[str, Any] = {"diaObjectId": "long", "ra": "double", "dec": "double"}
    if major >= 8:
        dia_object["validityStart" if major == 8 else "validityStartMjdTai"] = (
            stamp if major == 8 else "double"
        )
    top: dict[str, Any] = {"diaSourceId": "long"} if major >= 8 else {"alertId": "long"}
    if major >= 8:
        top |= {"observation_reason": ["null", "string"], "target_name": ["null", "string"]}
    top |= {
        "diaSource": f"{space}.diaSource",
        "prvDiaSources": ["null", {"type": "array", "items": f"{space}.diaSource"}],
        "prvDiaForcedSources": ["null", {"type": "array", "items": f"{space}.diaForcedSource"}],
    }
    parts = {"diaSource": source, "diaForcedSource": forced, "diaObject": dia_object}
    if major < 8:
        limit = f"{space}.diaNondetectionLimit"
        top["prvDiaNondetectionLimits"] = ["null", {"type": "array", "items": limit}]
        parts["diaNondetectionLimit"] = {"ccdVisitId": "long", "midpointMjdTai": "double", "band": "string",
                                         "diaNoise": "float"}  # fmt: skip
    top["diaObject"] = ["null", f"{space}.diaObject"]
    if major >= 8:
        orbit = "mpc_orbits" if major >= 10 else "MPCORB"
        top |= {"ssSource": ["null", f"{space}.ssSource"], orbit: ["null", f"{space}.{orbit}"]}
        parts["ssSource"] = {("helio_x" if major >= 10 else "heliocentricX"): ["null", "float"]}
        parts[orbit] = {"mpcDesignation" if major < 10 else "designation": ["null", "string"]}
    top |= {key: ["null", "bytes"] for key in ("cutoutDifference", "cutoutScience", "cutoutTemplate")}
    parts["alert"] = top
    return {f"{space}.{name}": record_type(f"{space}.{name}", fields) for name, fields in parts.items()}


def lsst_record(version: str, *, source: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """Make an LSST packet's values; what is missing is NaN as often as null."""
    record = blank(lsst_schema(version))
    major = int(version.split(".", maxsplit=1)[0])
    record["diaSourceId" if major >= 8 else "alertId"] = 170032915988086813
    record["diaSource"] = lsst_source(version, diaSourceId=170032915988086813) | (source or {})
    return record | top


def lsst_source(version: str, **values: Any) -> dict[str, Any]:
    """Make a record `diaSource`."""
    schema = lsst_schema(version)
    sign = "isNegative" if int(version.split(".", maxsplit=1)[0]) >= 8 else "is_negative"
    nan = float("nan")
    return blank(next(item["type"] for item in schema["fields"] if item["name"] == "diaSource")) | {
        "visit": 2025071900447, "detector": 94, "diaObjectId": 170032915988086813, "ssObjectId": 0,
        "parentDiaSourceId": 0, "midpointMjdTai": 60902.5, "ra": 351.5, "dec": 0.125, "psfFlux": -1230.0,
        "psfFluxErr": 100.0, "psfLnL": nan, "snr": 12.5, "band": "r", "reliability": 0.5, sign: True,
    } | values  # fmt: skip


def lsst_forced(version: str, **values: Any) -> dict[str, Any]:
    """Make an entry of `prvDiaForcedSources`."""
    entry = blank(lsst_parts(version)[f"lsst.v{version.replace('.', '_')}.diaForcedSource"])
    return entry | {"midpointMjdTai": 60900.5, "psfFlux": 200.0, "psfFluxErr": 20.0, "band": "i"} | values


def lsst(version: str = "9.0", *, source: dict[str, Any] | None = None, **top: Any) -> bytes:
    """Make a framed LSST packet."""
    return framed(lsst_schema(version), lsst_record(version, source=source, **top), lsst_id(version))


def _joined(parts: dict[str, Any], name: str) -> Any:
    """Put every record in the place of its first mention, as Avro wants it in one schema."""
    seen: set[str] = set()

    def joined(kind: Any) -> Any:
        if isinstance(kind, str) and kind in parts and kind not in seen:
            seen.add(kind)
            fields = [item | {"type": joined(item["type"])} for item in parts[kind]["fields"]]
            return parts[kind] | {"fields": fields}
        if isinstance(kind, list):
            return [joined(branch) for branch in kind]
        if isinstance(kind, dict) and "items" in kind:
            return kind | {"items": joined(kind["items"])}
        return kind

    return joined(name)
