"""Notices in the forms in which they come: VOEvent, JSON, text, circulars; and what strangers may send in their place."""

from __future__ import annotations

import base64
import gzip
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from astropy.time import Time
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builders import fits_file, pixels
from nuncius.alerts.notices import is_notice_record, notice_from_bytes, notice_from_record
from nuncius.errors import PacketError

VOEVENT = b"""<?xml version="1.0" encoding="UTF-8"?>
<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://www.ivoa.net/xml/VOEvent/v2.0 http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd"
    ivorn="ivo://example.org/burst#B123_2026-11-20T04:05:06.78_7" role="observation" version="2.0">
  <Who>
    <AuthorIVORN>ivo://example.org/burst</AuthorIVORN>
    <Date>2026-11-20T04:06:00</Date>
    <Description>Written by hand for a test.</Description>
  </Who>
  <What>
    <Param name="TrigID" value="123" ucd="meta.id"><Description>the trigger</Description></Param>
    <Param name="Sigma" value="7.5" unit="sigma"/>
    <Group name="Solution_Status"><Param name="Test_Submission" value="false"/></Group>
    <Group type="Other"><Param name="Long"><Value>of many words</Value></Param></Group>
  </What>
  <WhereWhen>
    <ObsDataLocation>
      <ObservatoryLocation id="GEOLUN"/>
      <ObservationLocation>
        <AstroCoordSystem id="UTC-FK5-GEO"/>
        <AstroCoords coord_system_id="UTC-FK5-GEO">
          <Time unit="s"><TimeInstant><ISOTime>2026-11-20T04:05:06.78</ISOTime></TimeInstant></Time>
          <Position2D unit="deg">
            <Name1>RA</Name1><Name2>Dec</Name2>
            <Value2><C1>123.4500</C1><C2>-12.3400</C2></Value2>
            <Error2Radius>2.5000</Error2Radius>
          </Position2D>
        </AstroCoords>
      </ObservationLocation>
    </ObsDataLocation>
  </WhereWhen>
  <Why importance="0.5"><Inference probability="0.9"><Concept>process.variation.burst;em.gamma</Concept></Inference></Why>
  <Description>A burst that nobody saw.</Description>
</voe:VOEvent>
"""


def voevent(*replacements):
    text = VOEVENT
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return text


GW = {
    "alert_type": "PRELIMINARY",
    "time_created": "2026-11-20T04:10:00Z",
    "superevent_id": "S261120ab",
    "urls": {"gracedb": "https://gracedb.example.org/superevents/S261120ab/view/"},
    "event": {
        "significant": True,
        "time": "2026-11-20T04:05:06.780Z",
        "far": 9.11e-14,
        "instruments": ["H1", "L1"],
        "group": "CBC",
        "properties": {"HasNS": 0.95},
        "classification": {"BNS": 0.95, "NSBH": 0.01, "BBH": 0.03, "Terrestrial": 0.01},
        "skymap": base64.b64encode(fits_file(pixels(4), packed=False)).decode(),
    },
    "external_coinc": None,
}

UNIFIED = {
    "$schema": "https://gcn.nasa.gov/schema/v4.2.0/gcn/notices/example/burst.schema.json",
    "mission": "Example",
    "instrument": "BAT",
    "id": ["707"],
    "event_name": ["GRB 261120A"],
    "record_number": 3,
    "alert_type": "update",
    "alert_tense": "current",
    "alert_datetime": "2026-11-20T04:07:00.00Z",
    "trigger_time": "2026-11-20T04:05:06.123456789Z",
    "ra": 10.5,
    "dec": -20.25,
    "ra_dec_error": [0.5, 0.25, 30.0],
    "healpix_file": base64.b64encode(fits_file(pixels(4))).decode(),
}

TEXT = b"""TITLE:           GCN/EXAMPLE NOTICE
NOTICE_DATE:     Fri 20 Nov 26 04:06:00 UT
NOTICE_TYPE:     Example-GBM Flight Position
RECORD_NUM:      65
TRIGGER_NUM:     648816845
GRB_RA:          249.300d {+16h 37m 12s} (J2000),
                 249.627d {+16h 38m 31s} (current),
                 248.711d {+16h 34m 51s} (1950)
GRB_DEC:         -12.450d {-12d 27' 00"} (J2000),
                 -12.503d {-12d 30' 11"} (current),
                 -12.344d {-12d 20' 38"} (1950)
GRB_ERROR:       30.00 [arcmin radius, statistical only]
GRB_DATE:        21364 TJD;   324 DOY;   26/11/20
GRB_TIME:        14706.78 SOD {04:05:06.78} UT
SUN_POSTN:       235.60d {+15h 42m 24s}  -19.70d {-19d 42' 00"}
POINT_RA:        11.000d (J2000)
POINT_DEC:       12.000d (J2000)
COMMENTS:        First line.
COMMENTS:        Second line.
"""


def text_notice(**fields):
    lines = {"TITLE": "GCN/EXAMPLE NOTICE", "TRIGGER_NUM": "1", **fields}
    return "".join(f"{name}: {value}\n" for name, value in lines.items()).encode()


CIRCULAR = b"""TITLE:   GCN CIRCULAR
NUMBER:  98765
SUBJECT: GRB 261120A: an afterglow that was
         not there
DATE:    26/11/20 05:00:01 GMT
FROM:    Jane Doe at Nowhere <jane@example.org>

We looked: nothing.

NOTE: really nothing.
"""


# The forms ----------------------------------------------------------------------------------------------------------


def test_voevent():
    notice = notice_from_bytes(VOEVENT, "gcn.classic.voevent.EXAMPLE")
    assert notice.id == "ivo://example.org/burst#B123_2026-11-20T04:05:06.78_7"
    assert (notice.kind, notice.survey) == ("gcn.classic.voevent.EXAMPLE", "gcn")
    assert notice.time == datetime(2026, 11, 20, 4, 5, 6, 780000, tzinfo=UTC)
    assert (notice.ra, notice.dec, notice.radius_deg) == (123.45, -12.34, 2.5)
    assert not notice.is_test
    assert notice.raw == VOEVENT
    assert notice.packet["role"] == "observation"
    assert notice.packet["Who"]["AuthorIVORN"] == "ivo://example.org/burst"
    assert notice.packet["What"]["Param"][1] == {"name": "Sigma", "value": "7.5", "unit": "sigma"}
    assert notice.packet["params"] == {
        "TrigID": "123",
        "Sigma": "7.5",
        "Solution_Status": {"Test_Submission": "false"},
        "Other": {"Long": "of many words"},
    }
    assert notice.text == "Written by hand for a test.\nA burst that nobody saw."


def test_voevent_as_json():
    record = notice_from_bytes(VOEVENT).packet
    del record["params"]
    notice = notice_from_bytes(json.dumps(record).encode(), content_type="voevent")
    assert notice.packet == notice_from_bytes(VOEVENT).packet
    assert (notice.id, notice.time, notice.ra) == (
        "ivo://example.org/burst#B123_2026-11-20T04:05:06.78_7",
        datetime(2026, 11, 20, 4, 5, 6, 780000, tzinfo=UTC),
        123.45,
    )


def test_a_test_says_so():
    assert notice_from_bytes(voevent((b'role="observation"', b'role="test"'))).is_test
    assert notice_from_bytes(json.dumps(GW | {"superevent_id": "MS261120ab"}).encode()).is_test
    assert not notice_from_bytes(json.dumps(GW).encode()).is_test
    assert notice_from_bytes(json.dumps(UNIFIED | {"alert_tense": "injection"}).encode()).is_test
    assert notice_from_bytes(TEXT.replace(b"Flight Position", b"Test Position")).is_test
    assert not notice_from_bytes(TEXT.replace(b"Flight Position", b"Latest Position")).is_test


@pytest.mark.parametrize("scale", ["TT", "TDB", "TAI"])
def test_times_of_other_scales_become_utc(scale):
    notice = notice_from_bytes(voevent((b'coord_system_id="UTC-', f'coord_system_id="{scale}-'.encode())))
    expected = Time("2026-11-20T04:05:06.78", scale=scale.lower()).utc.to_datetime(timezone=UTC)
    assert abs(notice.time - expected) < timedelta(milliseconds=1.1)
    assert notice.ra == 123.45


@pytest.mark.parametrize(
    "change",
    [
        (b'coord_system_id="UTC-FK5-GEO"', b'coord_system_id="UTC-FK4-GEO"'),
        (b'coord_system_id="UTC-FK5-GEO"', b'coord_system_id="UTC-GAL-GEO"'),
        (b'<Position2D unit="deg">', b'<Position2D unit="rad">'),
        (b"123.4500", b"361"),
        (b"123.4500", b"NaN"),
        (b"123.4500", b"many"),
        (b"-12.3400", b""),
    ],
    ids=["FK4", "galactic", "radians", "too large", "nan", "no number", "empty"],
)
def test_a_position_that_is_not_understood_is_none(change):
    notice = notice_from_bytes(voevent(change))
    assert (notice.ra, notice.dec, notice.radius_deg) == (None, None, None)
    assert notice.time is not None


def test_zeros_stand_for_no_position():
    nowhere = [(b"123.4500", b"0.0000"), (b"-12.3400", b"0.0000")]
    assert notice_from_bytes(voevent(*nowhere, (b"2.5000", b"0.0000"))).ra is None
    assert notice_from_bytes(voevent(*nowhere)).ra == 0.0  # with an error it is one


@pytest.mark.parametrize(
    "when", [b"yesterday", b"", b"2026-13-40T00:00:00", b"2026-11-20T04:05:06.78" + b"0" * 80]
)
def test_a_time_that_is_not_understood_is_none(when):
    assert notice_from_bytes(voevent((b"<ISOTime>2026-11-20T04:05:06.78", b"<ISOTime>" + when))).time is None


def test_a_scale_that_is_not_known_gives_no_time():
    assert notice_from_bytes(voevent((b'coord_system_id="UTC-', b'coord_system_id="GPS-'))).time is None


def test_gravitational_wave():
    notice = notice_from_bytes(json.dumps(GW).encode(), "igwn.gwalert")
    assert (notice.id, notice.survey) == ("S261120ab/PRELIMINARY/2026-11-20T04:10:00Z", "igwn")
    assert notice.time == datetime(2026, 11, 20, 4, 5, 6, 780000, tzinfo=UTC)
    assert notice.skymap == fits_file(pixels(4), packed=False)
    assert (notice.ra, notice.radius_deg) == (None, None)
    assert notice.packet == GW
    assert notice.text == (
        "S261120ab PRELIMINARY; one false alarm in 3.48e+05 years; BNS 0.95, BBH 0.03, NSBH 0.01; "
        "https://gracedb.example.org/superevents/S261120ab/view/"
    )


def test_retraction():
    record = {name: GW[name] for name in ("superevent_id", "time_created", "urls")}
    notice = notice_from_bytes(json.dumps(record | {"alert_type": "RETRACTION", "event": None}).encode())
    assert (notice.kind, notice.id) == ("igwn.gwalert", "S261120ab/RETRACTION/2026-11-20T04:10:00Z")
    assert (notice.time, notice.skymap) == (None, None)


def test_unified_schema():
    notice = notice_from_bytes(json.dumps(UNIFIED).encode(), "gcn.notices.example")
    assert notice.id == "GRB 261120A/707/update/3"
    assert notice.time == datetime(2026, 11, 20, 4, 5, 6, 123456, tzinfo=UTC)
    assert (notice.ra, notice.dec, notice.radius_deg) == (10.5, -20.25, 0.5)
    assert (
        notice.skymap == gzip.compress(fits_file(pixels(4), packed=False)) or notice.skymap[:2] == b"\x1f\x8b"
    )
    assert notice.text == "Example BAT GRB 261120A update"


def test_unified_schema_in_other_words():
    record = {
        "event_name": "E1",
        "alert_datetime": "2026-11-20T04:07:00Z",
        "ra_dec_error": 1.5,
        "localization": {"ra": 1.0, "dec": 2.0, "ra_dec_error": 0.75},
    }
    notice = notice_from_bytes(json.dumps(record).encode())
    assert (notice.id, notice.kind) == ("E1/2026-11-20T04:07:00Z", "notice.json")
    assert (notice.ra, notice.dec, notice.radius_deg) == (1.0, 2.0, 0.75)


def test_heartbeat():
    raw = b'{"$schema": "https://gcn.nasa.gov/schema/v4.1.0/gcn/heartbeat.schema.json", "alert_datetime": "2026-11-20T04:07:01.5Z"}'
    notice = notice_from_bytes(raw, "gcn.heartbeat")
    assert (notice.id, notice.time) == ("2026-11-20T04:07:01.5Z", None)


def test_text():
    notice = notice_from_bytes(TEXT, "gcn.classic.text.EXAMPLE")
    assert notice.id == "648816845/65"
    assert notice.time == datetime(2026, 11, 20, 4, 5, 6, 780000, tzinfo=UTC)
    assert (notice.ra, notice.dec, notice.radius_deg) == (249.3, -12.45, 0.5)
    assert notice.packet["COMMENTS"] == "First line.\nSecond line."
    assert notice.packet["GRB_RA"].count("\n") == 2
    assert notice.text == TEXT.decode()
    assert not notice.is_test


def test_the_date_of_a_text_is_that_of_its_truncated_julian_day():
    # TJD 21364 is MJD 61364.
    assert Time(61364, format="mjd").isot.startswith("2026-11-20")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"SRC_RA": "10.5d {+00h 42m 00s} (J2000),", "SRC_DEC": "-5.0d (J2000)", "SRC_ERROR": "36 [arcsec radius]"},
         (10.5, -5.0, 0.01)),
        ({"SRC_RA": "10.5 deg", "SRC_DEC": "-5.0 deg", "SRC_ERROR90": "0.5 [deg radius]"}, (10.5, -5.0, 0.5)),
        ({"GRB_RA": "Undefined", "GRB_DEC": "Undefined"}, (None, None, None)),
        ({"GRB_RA": "10.5d (current)", "GRB_DEC": "-5.0d (current)"}, (None, None, None)),
        ({"GRB_RA": "0.000d {+00h 00m 00s} (J2000)", "GRB_DEC": "0.000d (J2000)", "GRB_ERROR": "0.00 [deg]"},
         (None, None, None)),
        ({"POINT_RA": "10.5d (J2000)", "POINT_DEC": "1.0d (J2000)"}, (None, None, None)),
        ({"GRB_RA": "10.5d (J2000)", "GRB_DEC": "-5.0d (J2000)", "GRB_ERROR": "3 [pixel radius]"}, (10.5, -5.0, None)),
    ],
)  # fmt: skip
def test_positions_in_text(fields, place):
    notice = notice_from_bytes(text_notice(**fields))
    assert (notice.ra, notice.dec, notice.radius_deg) == place


@pytest.mark.parametrize(
    ("date", "clock", "expected"),
    [
        (
            "21364 TJD;   324 DOY;   26/11/20",
            "0.5 SOD {00:00:00.50} UT",
            datetime(2026, 11, 20, 0, 0, 0, 500000, UTC),
        ),
        ("26/11/20", "86400.5 SOD", datetime(2026, 11, 21, 0, 0, 0, 500000, UTC)),
        ("21364 TJD", "60 SOD", datetime(2026, 11, 20, 0, 1, tzinfo=UTC)),
        ("21365 TJD;   324 DOY;   26/11/20", "60 SOD", None),  # the two contradict each other
        ("21364 TJD;   324 DOY;   26/13/20", "60 SOD", None),
        ("21364 TJD", "90000 SOD", None),
        ("21364 TJD", "", None),
        ("", "60 SOD", None),
    ],
)
def test_times_in_text(date, clock, expected):
    assert notice_from_bytes(text_notice(GRB_DATE=date, GRB_TIME=clock)).time == expected


def test_a_circular_as_text():
    notice = notice_from_bytes(CIRCULAR)
    assert (notice.kind, notice.id) == ("gcn.circulars", "98765")
    assert notice.time == datetime(2026, 11, 20, 5, 0, 1, tzinfo=UTC)
    assert notice.text == (
        "GRB 261120A: an afterglow that was not there\n\nWe looked: nothing.\n\nNOTE: really nothing."
    )
    assert notice.packet["header"]["from"] == "Jane Doe at Nowhere <jane@example.org>"


def test_circulars_as_json():
    own = {"circularId": 98765, "subject": "S", "submitter": "J", "createdOn": 1795150801500, "body": "B"}
    notice = notice_from_bytes(json.dumps(own).encode())
    assert (notice.kind, notice.id, notice.text) == ("gcn.circulars", "98765", "S\n\nB")
    assert notice.time == datetime.fromtimestamp(1795150801.5, UTC)
    assert notice_from_bytes(json.dumps(own | {"version": 2}).encode()).id == "98765/v2"
    assert notice_from_bytes(json.dumps(own | {"circularId": 5400.5}).encode()).id == "5400.5"
    assert notice_from_bytes(json.dumps(own | {"createdOn": 1e300}).encode()).time is None
    hops = {"header": {"number": "98765", "subject": "S", "date": "26/11/20 05:00:01 GMT"}, "body": "B"}
    notice = notice_from_bytes(json.dumps(hops).encode())
    assert (notice.id, notice.text, notice.time.hour) == ("98765", "S\n\nB", 5)


def test_without_an_id_the_content_tells_notices_apart():
    one, two = (notice_from_bytes(b'{"ra": 1.0, "dec": %d.0}' % dec).id for dec in (1, 2))
    assert one != two
    assert len(one) == 32
    assert (
        notice_from_bytes(text_notice(TRIGGER_NUM="")).id == notice_from_bytes(text_notice(TRIGGER_NUM="")).id
    )


def test_what_is_a_notice_among_records():
    assert all(
        map(is_notice_record, (GW, UNIFIED, {"ivorn": "ivo://x"}, {"body": "b", "header": {}, "other": 1}))
    )
    alert = {"objectId": "ZTF20abc", "candid": 7, "ra": 1.0, "dec": 2.0}
    assert not is_notice_record(alert)
    assert notice_from_record(GW, b"raw", "k").raw == b"raw"


# What a stream states is not guessed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("json", json.dumps(GW).encode()),
        ("application/json; charset=utf-8", json.dumps(GW).encode()),
        ("VOEvent", VOEVENT),
        ("application/xml", VOEVENT),
        ("text", TEXT),
        ("text/plain", TEXT),
        ("circular", CIRCULAR),
    ],
)
def test_stated_formats(content_type, raw):
    assert notice_from_bytes(raw, content_type=content_type).packet == notice_from_bytes(raw).packet


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [("json", VOEVENT), ("voevent", TEXT), ("circular", TEXT), ("text", VOEVENT), ("image/png", TEXT)],
)
def test_what_is_not_of_the_stated_format_is_refused(content_type, raw):
    with pytest.raises(PacketError):
        notice_from_bytes(raw, content_type=content_type)


# Strangers ----------------------------------------------------------------------------------------------------------

LAUGHS = (
    b'<!DOCTYPE v [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><VOEvent>&j;</VOEvent>"
)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"  \n ",
        b"\x00\x01\x02",
        b"just words",
        b"[]",
        b'"text"',
        b"{",
        b"{]",
        b"[1, 2]",
        b"<a>",
        b"<VOEvent/>junk",
        b"<html><body/></html>",
        b"<VOEvent",
        b"<?xml version='1.0' encoding='utf-4711'?><VOEvent/>",
        b"<?xml version='1.0' encoding='utf-16'?><VOEvent/>",
        LAUGHS,
        b'<!DOCTYPE v SYSTEM "file:///etc/hostname"><VOEvent/>',
        b'<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/hostname">]><VOEvent>&x;</VOEvent>',
        b"<a>" * 100_000,
        b"<VOEvent>" + b"<a>" * 100 + b"</a>" * 100 + b"</VOEvent>",
        b"<VOEvent>" + b"<a/>" * 100_001 + b"</VOEvent>",
        b"{" * 100_000,
        b"[" * 1_000_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"SUBJECT: x\nFROM: y\nNUMBER\n",
    ],
    ids=range(25),
)
def test_what_is_no_notice_is_a_packet_error(raw):
    with pytest.raises(PacketError):
        notice_from_bytes(raw, "k")


def test_large_messages_are_refused_at_once():
    began = time.monotonic()
    for raw, content_type in [
        (b"TITLE: x\n" * 1_000_000, None),
        (b"<a>" * 5_000_000, None),
        (b"{" * 65 * 2**20, None),
    ]:
        with pytest.raises(PacketError, match="more than"):
            notice_from_bytes(raw, content_type=content_type)
    assert time.monotonic() - began < 5


def test_many_lines_take_their_time_once():
    began = time.monotonic()
    notice = notice_from_bytes(b"TITLE: x\nGRB_RA: " + b"(" * 100_000 + b"\n" + b"A: b\n" * 200_000)
    assert notice.ra is None
    notice_from_bytes(b"TITLE: x\nGRB_RA: " + b"1" * 1_000_000 + b"\nGRB_DEC: 1{" + b"{" * 100_000)
    assert time.monotonic() - began < 5


def test_a_huge_sky_map_is_decoded_and_a_false_one_is_missing():
    large = b"SIMPLE  =" + bytes(20_000_000)
    record = GW | {"event": GW["event"] | {"skymap": base64.b64encode(large).decode()}}
    assert notice_from_bytes(json.dumps(record).encode()).skymap == large
    for wrong in ("no base64!", "SGVsbG8=", "ä" * 8, 7, None, ["U0lNUExF"], ""):
        record = GW | {"event": GW["event"] | {"skymap": wrong}}
        assert notice_from_bytes(json.dumps(record).encode()).skymap is None


def test_halves_of_surrogate_pairs_are_printable():
    notice = notice_from_bytes(b'{"superevent_id": "S\\ud800", "alert_type": "x\\udfff"}')
    notice.id.encode()
    notice.text.encode()
    shortened = notice_from_bytes(b'{"event_name": "' + b"x" * 10_000 + b'"}').id
    assert len(shortened) == 200
    assert shortened.startswith("x" * 180)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just("2026-11-20T00:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["superevent_id", "alert_type", "event", "time", "skymap", "far", "classification", "urls", "gracedb", "ra", "dec",
     "ra_dec_error", "id", "event_name", "trigger_time", "alert_datetime", "circularId", "subject", "body", "header",
     "createdOn", "version", "ivorn", "role", "What", "Param", "Group", "WhereWhen", "ObsDataLocation", "localization",
     "ObservationLocation", "AstroCoords", "coord_system_id", "Time", "TimeInstant", "ISOTime", "Position2D", "Value2",
     "C1", "C2", "Error2Radius", "Description", "number", "date", "name", "value"]
)  # fmt: skip
RECORDS = st.recursive(
    st.dictionaries(NAMES, ODD, max_size=6),
    lambda inner: st.dictionaries(NAMES, inner | ODD | st.lists(inner, max_size=2), max_size=6),
    max_leaves=6,
)


def whole(notice):
    _ = (notice.digest, notice.mjd, repr(notice), notice._repr_html_(), hash(notice))
    place = (notice.ra is None) == (notice.dec is None)
    return (
        place
        and isinstance(notice.id, str)
        and isinstance(notice.text, str)
        and isinstance(notice.packet, dict)
    )


@settings(max_examples=300, deadline=None)
@given(RECORDS)
def test_records_of_wrong_types_are_notices_with_missing_values(record):
    assert whole(notice_from_record(record, b"raw", "k"))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([VOEVENT, TEXT, CIRCULAR, json.dumps(UNIFIED).encode(), json.dumps(GW).encode()]),
    st.data(),
)
def test_damaged_bytes_are_packet_errors_or_notices(raw, data):
    position = data.draw(st.integers(0, len(raw)))
    piece = data.draw(
        st.binary(max_size=8) | st.sampled_from([b"<!--", b"]]>", b"{", b"\0", b"&", b"NaN", b"1e999"])
    )
    cut = data.draw(st.integers(0, 8) | st.just(len(raw)))
    damaged = raw[:position] + piece + raw[position + cut :]
    content_type = data.draw(st.sampled_from([None, "json", "voevent", "text", "circular"]))
    try:
        notice = notice_from_bytes(damaged, "k", content_type)
    except PacketError:
        return
    assert whole(notice)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.sampled_from([None, "json", "voevent", "text", "circular"]))
@example(b"<?xml version='1.0' encoding='big5'?><VOEvent/>", None)
@example(b'{"ra": 1e999, "dec": -1e999}', None)
@example(b'{"circularId": 1e999, "body": ""}', None)
@example(b'{"superevent_id": ' + b"9" * 5000 + b"}", None)
def test_any_bytes_are_packet_errors_or_notices(raw, content_type):
    try:
        notice = notice_from_bytes(raw, "k", content_type)
    except PacketError:
        return
    assert whole(notice)
