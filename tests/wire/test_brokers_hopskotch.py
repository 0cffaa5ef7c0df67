"""Hopskotch: the header `_format` tells what a message is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_notices import CIRCULAR, GW, TEXT, VOEVENT

import builders
from nuncius import Alert, Notice
from nuncius.alerts import Origin
from nuncius.brokers.hopskotch import Hopskotch, hop_credentials
from nuncius.errors import ConfigurationError, PacketError
from nuncius.streams.transport import Message

UUID = bytes(range(16))
TOPIC = "group.topic"


def read(raw, form=None, *more, test_messages=False):
    headers = [("_id", UUID), ("_sender", b"jane"), *more]
    if form is not None:
        headers.append(("_format", form.encode()))
    origin = Origin("kafka", TOPIC, 0, 1, headers=tuple(headers), broker="hopskotch")
    items = Hopskotch().reader(test_messages=test_messages)(
        Message(TOPIC, 0, 1, raw, headers=headers), origin
    )
    # Of several notices none has the message's id in its headers.
    assert all(replace(item.origin, headers=origin.headers) == origin for item in items)
    return items


def only(raw, form=None, *more, **options):
    [item] = read(raw, form, *more, **options)
    return item


# Formats ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "JSON", " Json "])
def test_json_records_are_alerts_unless_they_are_notices(form):
    alert = only(b'{"candid": 7, "objectId": "A1", "ra": 10.0, "dec": -5.0}', form)
    assert isinstance(alert, Alert)
    assert (alert.alert_id, alert.object_id, alert.ra) == (7, "A1", 10.0)
    notice = only(json.dumps(GW).encode(), form)
    assert isinstance(notice, Notice)
    assert (notice.kind, notice.packet) == (TOPIC, GW)


def test_json_lists():
    assert [alert.alert_id for alert in read(b'[{"candid": 1}, {"candid": 2}]', "json")] == [1, 2]


@pytest.mark.parametrize("value", ["a text", 7, None, True, [], [1, {"a": 2}], [[]]])
def test_json_of_any_other_kind_is_kept_as_a_notice(value):
    notice = only(json.dumps(value).encode(), "json")
    assert (notice.packet, notice.id, notice.kind) == ({"content": value}, UUID.hex(), TOPIC)
    assert notice.text == (value if isinstance(value, str) else "")


def test_avro():
    schema = builders.record_type("thing", {"objectId": "string", "ra": "double", "dec": "double"})
    records = [{"objectId": f"X{n}", "ra": float(n), "dec": 0.5} for n in range(3)]
    one = only(builders.packed_container(schema, records[:1], codec="deflate"), "avro")
    assert (one.object_id, one.survey) == ("X0", "thing")
    assert [alert.ra for alert in read(builders.packed_container(schema, records, codec="null"), "AVRO")] == [
        0,
        1,
        2,
    ]
    assert only(builders.ztf(), "avro").survey == "ztf"


def test_gravitational_waves_in_avro():
    skymap = builders.fits_file(builders.pixels(4), packed=False)
    event = builders.record_type("event", {"time": "string", "far": "double", "skymap": "bytes"})
    schema = builders.record_type(
        "alert", {"superevent_id": "string", "alert_type": "string", "time_created": "string", "event": event}
    )
    record = {"superevent_id": "S261120ab", "alert_type": "INITIAL", "time_created": "2026-11-20T04:10:00Z",
              "event": {"time": "2026-11-20T04:05:06.780Z", "far": 1e-14, "skymap": skymap}}  # fmt: skip
    notice = only(builders.packed_container(schema, [record], codec="deflate"), "avro")
    assert isinstance(notice, Notice)
    assert (notice.id, notice.skymap) == ("S261120ab/INITIAL/2026-11-20T04:10:00Z", skymap)
    assert notice.time.second == 6


def test_a_record_without_object_and_position_is_a_notice():
    notice = only(b'{"title": "Look", "message_text": "there", "submitter": "Jane"}', "json")
    assert isinstance(notice, Notice)
    assert (notice.id, notice.text, notice.packet["submitter"]) == (UUID.hex(), "Look\nthere", "Jane")
    one, two = read(b'[{"title": "a"}, {"title": "b"}]', "json")
    assert one.id != two.id
    assert isinstance(read(b'[{"title": "a"}, {"candid": 7}]', "json")[1], Alert)


def test_avro_that_is_no_record_is_kept_as_a_notice():
    notice = only(
        builders.packed_container({"type": "array", "items": "int"}, [[1, 2]], codec="null"), "avro"
    )
    assert (notice.packet, notice.id) == ({"content": [1, 2]}, UUID.hex())
    assert only(builders.packed_container("string", ["words"], codec="deflate"), "avro").text == "words"
    three = read(builders.packed_container("string", ["a", "b", "c"], codec="null"), "avro")
    assert [notice.text for notice in three] == ["a", "b", "c"]
    assert len({notice.key for notice in three}) == 3
    longer = builders.header("string") + builders.SYNC + builders.block(b"\x02a\0", 1)
    with pytest.raises(PacketError, match="left over"):
        read(longer, "avro")


def test_avro_must_be_a_container():
    schema = builders.record_type("thing", {"objectId": "string"})
    with pytest.raises(PacketError, match="no object container"):
        read(builders.datum(schema, {"objectId": "x"}), "avro")
    with pytest.raises(PacketError, match="no record"):
        read(builders.container(schema, []), "avro")


def test_notices():
    event = only(VOEVENT, "voevent")
    assert (event.ra, event.kind) == (123.45, TOPIC)
    as_json = {name: value for name, value in event.packet.items() if name != "params"}
    assert only(json.dumps(as_json).encode(), "voevent").packet == event.packet
    assert only(CIRCULAR, "circular").id == "98765"
    hops = {"header": {"number": "98765", "subject": "S", "from": "J"}, "body": "B"}
    assert only(json.dumps(hops).encode(), "circular").text == "S\n\nB"
    assert only(TEXT, "gcntextnotice").ra == 249.3
    assert isinstance(only(VOEVENT, "voevent").time, datetime)


def test_blobs():
    words = only("Grüße".encode(), "blob")
    assert (words.text, words.raw, words.id) == ("Grüße", "Grüße".encode(), UUID.hex())
    binary = only(b"\xff\x00\x01", "blob")
    assert (binary.text, binary.raw, binary.packet) == ("", b"\xff\x00\x01", {})


def test_what_stands_elsewhere_is_named_and_not_fetched():
    notice = only(b'{"url": "http://127.0.0.1:1/large"}', "external")
    assert notice.packet == {"url": "http://127.0.0.1:1/large"}
    assert "http://127.0.0.1:1/large" in notice.text
    for raw in (b"{}", b"[]", b'{"url": 7}', b'{"url": ""}'):
        with pytest.raises(PacketError, match="without its url"):
            read(raw, "external")


def test_messages_without_an_id_are_told_apart_by_their_bytes():
    origin = Origin("kafka", TOPIC)
    reader = Hopskotch().reader()
    [one], [two] = (
        reader(Message(TOPIC, 0, 1, raw, headers=[("_format", b"blob")]), origin) for raw in (b"a", b"b")
    )
    assert len(one.id) == 32
    assert one.id != two.id


@pytest.mark.parametrize("form", ["hologram", "pickle", "\x00", "json2", "x" * 1000])
def test_unknown_formats_are_refused(form):
    with pytest.raises(PacketError, match="is not known; known are json, avro"):
        read(b"{}", form)


@pytest.mark.parametrize(
    ("raw", "form"),
    [(b"{", "json"), (b"", "json"), (b"Obj\x01", "avro"), (b"<a", "voevent"), (b"x", "circular")],
)
def test_damage(raw, form):
    with pytest.raises(PacketError):
        read(raw, form)


# Without a format -----------------------------------------------------------------------------------------------------


def test_the_older_envelope():
    def envelope(form, content):
        return json.dumps({"format": form, "content": content}).encode()

    assert only(envelope("blob", {"candid": 7})).alert_id == 7  # the old name of JSON
    assert only(envelope("json", "words")).text == "words"
    hops = {"header": {"number": "98765", "subject": "S"}, "body": "B"}
    assert only(envelope("circular", hops)).id == "98765"
    event = {name: value for name, value in only(VOEVENT, "voevent").packet.items() if name != "params"}
    assert only(envelope("voevent", event)).ra == 123.45
    assert only(envelope("circular", CIRCULAR.decode())).id == "98765"
    with pytest.raises(PacketError, match="is not known"):
        read(envelope("hologram", {}))


def test_without_any_envelope_the_bytes_tell():
    assert only(b'{"candid": 7}').alert_id == 7
    assert only(b'{"format": 1, "content": 2, "candid": 7}').alert_id == 7
    assert only(json.dumps(GW).encode()).packet == GW
    assert only(builders.ztf()).survey == "ztf"
    assert only(VOEVENT).ra == 123.45
    assert only(CIRCULAR).id == "98765"
    assert only(TEXT).ra == 249.3


@pytest.mark.parametrize("raw", [b"", b"\x00\x01\x02", b"words", b"{", b"\xff" * 20])
def test_unknown_content_is_refused(raw):
    with pytest.raises(PacketError):
        read(raw)


# Tests and marks --------------------------------------------------------------------------------------------------


def test_test_messages_are_finished_at_once_unless_asked_for():
    for value in (b"true", b"", None):
        assert list(read(b"{}", "json", ("_test", value))) == []
    assert list(read(b"not even readable", "json", ("_test", b"1"))) == []
    assert only(VOEVENT, "voevent", ("_test", b"1"), test_messages=True).is_test
    assert only(b"x", "blob", ("_test", b"1"), test_messages=True).is_test
    assert not only(b"x", "blob", test_messages=True).is_test


def test_the_first_of_two_headers_counts():
    assert only(b"words", "json", ("_format", b"blob")).text == "words"


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none()
        | st.text(max_size=9)
        | st.floats()
        | st.sampled_from(["blob", "voevent", "circular", "avro"]),
        lambda inner: st.dictionaries(
            st.sampled_from(["format", "content", "body", "header", "ivorn", "url", "ra"]), inner, max_size=4
        ),
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [None, "json", "avro", "voevent", "circular", "gcntextnotice", "external", "blob", "other"]
    ),
)
def test_any_message_is_read_or_a_packet_error(raw, form):
    try:
        items = read(raw, form)
    except PacketError:
        return
    for item in items:
        assert item.key


# hop's own file -------------------------------------------------------------------------------------------------------

AUTH = """
[[auth]]
username = "jane-1"
password = "hunter2"
hostname = "kafka.scimma.example:9092"

[[auth]]
username = "jane-2"
password = "hunter3"
"""


@pytest.fixture
def auth_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "nuncius"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("NUNCIUS_HOPSKOTCH_USERNAME", "NUNCIUS_HOPSKOTCH_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "hop" / "auth.toml"
    path.parent.mkdir()

    def write(text, mode=0o600):
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def test_the_login_of_hop_is_found(auth_file):
    path = auth_file(AUTH)
    found = Hopskotch().credentials(None, "kafka.scimma.example")
    assert (found.username, found.reveal(), found.source) == ("jane-1", "hunter2", str(path))
    assert "hunter2" not in repr(found)
    assert Hopskotch().credentials(None, "elsewhere.example").username == "jane-2"
    assert Hopskotch().credentials(("me", "secret"), "elsewhere.example").username == "me"


def test_one_login_may_stand_alone(auth_file):
    auth_file('[auth]\nusername = "jane"\npassword = "hunter2"\n')
    assert hop_credentials("any.example").username == "jane"


@pytest.mark.parametrize(
    "text",
    ["", "auth = 7", "[[auth]]\nusername = 'jane'\n", AUTH + "[[auth]]\nusername='x'\npassword='y'\n"],
)
def test_no_login_or_more_than_one_is_none(auth_file, text):
    auth_file(text)
    assert hop_credentials("elsewhere.example") is None


def test_no_file_is_no_login(auth_file):
    assert hop_credentials("elsewhere.example") is None


def test_a_file_that_others_can_read_is_refused(auth_file):
    auth_file(AUTH, 0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        hop_credentials("kafka.scimma.example")


def test_damage_shows_no_secret(auth_file):
    auth_file('[[auth]]\nusername = "jane"\npassword = "hunter2\n')
    with pytest.raises(ConfigurationError) as caught:
        hop_credentials("kafka.scimma.example")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
