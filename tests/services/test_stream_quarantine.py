"""Messages that can't be read, from a Kafka broker, in both colours: kept, told, never in the way, never lost."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import builders
from nuncius import open_stream
from nuncius.errors import PacketError, QuarantineFullError, UnreachableError
from streams_support import (
    QUICK,
    MockCluster,
    committed,
    ids,
    packet,
    packets,
    produce,
    read_all,
    take,
    wait_until,
)

RECORD = builders.record_type("nova.alert", {"candid": "long", "maybe": ["null", "long"]})
LSST = {900: builders.lsst_schema("9.0")}


def nova(number):
    return builders.container(RECORD, [builders.datum(RECORD, {"candid": number, "maybe": None})])


def damaged_inside(number):
    """Make a container whose lengths are right and whose record names a branch of the union that isn't there."""
    return builders.container(RECORD, [builders.varint(number) + builders.varint(9)])


@pytest.fixture
def url(server, topic):
    return f"kafka://{server}/{topic}"


@pytest.fixture
def folder(own_data_dir, server):
    return own_data_dir / "quarantine" / server.replace(":", "_")


def kept(folder):
    """Return what the quarantine holds: for each offset the bytes and the reason."""
    found = {}
    for path in Path(folder).rglob("*.packet"):
        about = json.loads(path.with_suffix(".reason.json").read_text())
        found[about["offset"]] = (path.read_bytes(), about)
    return found


async def test_every_kind_of_damage_is_kept_with_its_reason(open_any, server, topic, url, group, folder):
    ztf = builders.ztf()
    bad = {
        "rubbish": b"this is no packet",
        "empty": b"",
        "tombstone": None,
        "cut in the header": ztf[:40],
        "cut in the record": ztf[: len(ztf) // 2],
        "cut in the marker": ztf[:-1],
        "more behind": ztf + b"x",
        "wrong marker": ztf[:-1] + bytes([ztf[-1] ^ 1]),
        "unknown number": builders.framed(RECORD, {"candid": 1, "maybe": None}, 4711),
        "framed and cut": builders.lsst("9.0")[:60],
        "no zlib": b"\x78\x9cnothing",
        "half JSON": b'{"candid": 1, ',
        "no record": builders.header(RECORD) + builders.SYNC,
        "XML": b"<?xml version='1.0'?><voe:VOEvent/>",
    }
    values = [packet(1000)]
    for number, value in enumerate(bad.values()):
        values += [value, packet(number)]
    produce(server, topic, values, partition=0, key=b"k", headers=[("_id", b"7")])
    async with open_any(url, group=group, stop="end", schema=LSST, config=QUICK) as stream:
        assert ids(await read_all(stream)) == [1000, *range(len(bad))]
        assert stream.stats().quarantined == len(bad)
    assert committed(server, group, topic)[0] == len(values)
    found = kept(folder)
    for number, (name, value) in enumerate(bad.items()):
        data, about = found[1 + 2 * number]
        assert data == (value or b""), name
        assert about["bytes"] == (None if value is None else len(value))
        assert len(about["reason"]) > 10
        assert about["error"] == ("SchemaError" if name == "unknown number" else "PacketError")
    assert "4711" in found[1 + 2 * list(bad).index("unknown number")][1]["reason"]
    assert "tombstone" in found[1 + 2 * list(bad).index("tombstone")][1]["reason"]


async def test_what_was_kept_is_read_again_when_the_schema_is_given(
    open_any, server, topic, url, group, folder
):
    framed = [builders.lsst("9.0", diaSourceId=number) for number in range(5)]
    produce(server, topic, framed, partition=0, key=b"k", headers=[("h", b"v")])
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        assert await read_all(stream) == []
        assert stream.stats().quarantined == 5
    async with open_any(f"replay://{folder}", schema=LSST) as stream:
        alerts = await read_all(stream)
    assert [alert.packet["diaSourceId"] for alert in alerts] == list(range(5))
    assert [alert.raw for alert in alerts] == framed
    assert alerts[0].origin.key == b"k"
    assert alerts[0].origin.headers == (("h", b"v"),)


async def test_schemas_in_a_folder_named_by_text(open_any, server, topic, url, group, tmp_path):
    produce(server, topic, [builders.lsst("9.0")], partition=0)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "900.avsc").write_text(json.dumps(builders.lsst_schema("9.0")))
    schema = str(tmp_path / "schemas")
    async with open_any(url, group=group, stop="end", schema=schema, config=QUICK) as stream:
        assert [alert.survey for alert in await read_all(stream)] == ["lsst"]


async def test_a_packet_cut_anywhere_is_kept(open_any, server, topic, url, group, folder):
    whole = nova(7)
    cuts = [whole[:length] for length in range(len(whole))]
    produce(server, topic, [*cuts, whole], partition=0)
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        alerts = await read_all(stream)
    assert ids(alerts) == [7]
    assert [kept(folder)[length][0] for length in range(len(whole))] == cuts
    assert committed(server, group, topic)[0] == len(whole) + 1


async def test_damage_inside_is_raised_at_the_touch_and_kept(open_any, server, topic, url, group, folder):
    produce(server, topic, [nova(0), damaged_inside(1), nova(2)], partition=0)
    async with open_any(url, group=group, stop="end", config=QUICK) as stream:
        alerts = []
        async for alert in stream:
            alerts.append(alert)
            if alert.origin.offset == 1:
                assert kept(folder) == {}
                with pytest.raises(PacketError, match=r"nova\.alert"):
                    _ = alert.packet
                assert kept(folder)[1][0] == damaged_inside(1)
    assert len(alerts) == 3
    assert committed(server, group, topic)[0] == 3
    assert stream.stats().quarantined == 1


async def test_damage_inside_is_found_before_the_hand_out_when_asked(
    open_any, server, topic, url, group, folder
):
    produce(server, topic, [nova(0), damaged_inside(1), nova(2)], partition=0)
    async with open_any(url, group=group, stop="end", validate=True, config=QUICK) as stream:
        assert ids(await read_all(stream)) == [0, 2]
    assert list(kept(folder)) == [1]
    assert committed(server, group, topic)[0] == 3


async def test_a_bad_message_can_stop_the_stream(open_any, server, topic, url, group, folder):
    produce(server, topic, [*packets(5), b"rubbish", *packets(5, first=5)], partition=0)
    seen = []
    with pytest.raises(PacketError, match=r"\[0\]@5") as failure:  # noqa: PT012
        async with open_any(url, group=group, stop="end", on_error="raise", config=QUICK) as stream:
            async for alert in stream:
                seen.append(alert.alert_id)
    assert seen == list(range(5))
    assert failure.value.position == f"{topic}[0]@5"
    assert committed(server, group, topic)[0] == 5
    assert not folder.exists()


async def test_batches_before_a_bad_message_are_handed_out(open_any, server, topic, url, group):
    produce(server, topic, [*packets(5), b"rubbish", *packets(5, first=5)], partition=0)
    seen = []
    with pytest.raises(PacketError, match=r"\[0\]@5"):  # noqa: PT012
        async with open_any(url, group=group, stop="end", on_error="raise", config=QUICK) as stream:
            async for batch in stream.batches(500, timeout_s=2):
                seen += ids(batch)
    assert seen == list(range(5))
    assert committed(server, group, topic)[0] == 5


async def test_a_bad_message_can_be_skipped(open_any, server, topic, url, group, folder, caplog):
    produce(server, topic, [packet(0), b"rubbish", None, packet(1)], partition=0)
    with caplog.at_level(logging.WARNING, "nuncius.streams"):
        async with open_any(url, group=group, stop="end", on_error="skip", config=QUICK) as stream:
            assert ids(await read_all(stream)) == [0, 1]
    assert stream.stats().skipped == 2
    assert f"{topic}[0]@1" in caplog.text
    assert committed(server, group, topic)[0] == 4
    assert not folder.exists()


def test_a_thousand_unreadable_messages_in_a_row_stop_the_stream(server, topic, url, group, folder):
    produce(
        server,
        topic,
        [*packets(3), *[b"rubbish %d" % number for number in range(1200)], *packets(3)],
        partition=0,
    )
    with (
        pytest.raises(QuarantineFullError, match=r"last 1000 messages.*not an alert packet") as failure,
        open_stream(url, group=group, config=QUICK) as stream,
    ):
        for _ in stream:
            pass
    assert str(folder) in str(failure.value)
    assert committed(server, group, topic)[0] == 3
    assert len(kept(folder)) == 1000
    # The next start stops at the same place: nothing is passed over by trying often.
    with pytest.raises(QuarantineFullError), open_stream(url, group=group, config=QUICK) as stream:
        assert next(stream) is None
    assert committed(server, group, topic)[0] == 3
    assert len(kept(folder)) == 1000


async def test_a_full_quarantine_stops_the_stream_and_finishes_nothing_of_it(
    open_any, server, topic, url, group, folder
):
    produce(server, topic, [*packets(3), *[b"x" * 2000] * 20, *packets(3, first=3)], partition=0)
    options = {"group": group, "config": QUICK, "stop": "end"}
    with pytest.raises(QuarantineFullError, match="may hold 10000"):
        async with open_any(url, quarantine_limit_bytes=10_000, **options) as stream:
            await read_all(stream)
    assert committed(server, group, topic)[0] == 3
    async with open_any(url, **options) as stream:
        assert ids(await read_all(stream)) == [3, 4, 5]
    assert len(kept(folder)) == 20


async def test_the_quarantine_may_be_elsewhere(open_any, server, topic, url, group, tmp_path, folder):
    produce(server, topic, [b"rubbish"], partition=0)
    elsewhere = tmp_path / "else" / "where"
    async with open_any(url, group=group, stop="end", quarantine_dir=elsewhere, config=QUICK) as stream:
        assert await read_all(stream) == []
    assert list(kept(elsewhere)) == [0]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("size", "compression"), [(4_500_000, "none"), (20_000_000, "gzip")], ids=["on the wire", "unpacked"]
)
async def test_megabytes_of_rubbish(open_any, group, own_data_dir, size, compression):
    """With the default settings. (The mock cluster drops at once what takes more than 5 MB, so more comes compressed.)"""
    rubbish = b"\xfe" * size
    with MockCluster({"big": 1}) as cluster:
        produce(cluster.server, "big", [packet(0)], partition=0)
        async with open_any(f"kafka://{cluster.server}/big", group=group, config=QUICK) as stream:
            assert ids(await take(stream, 1)) == [0]
            options = {"message_max_bytes": 2 * size, "compression_type": compression}
            produce(cluster.server, "big", [rubbish], partition=0, **options)
            assert wait_until(lambda: stream.stats().quarantined == 1)
            produce(cluster.server, "big", [packet(1)], partition=0)
            assert ids(await take(stream, 1)) == [1]
        assert committed(cluster.server, group, "big", [0])[0] == 3
    (found,) = kept(own_data_dir / "quarantine").values()
    assert found[0] == rubbish


# A schema registry --------------------------------------------------------------------------------------------------------


class Registry:
    """A schema registry on loopback that can be away: nobody listens then."""

    def __init__(self):
        self.asked = 0
        self.server = None
        self._start(0)
        self.port = self.server.server_address[1]

    def _start(self, port):
        registry = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                registry.asked += 1
                known = self.path.endswith("/schemas/ids/900")
                text = json.dumps(
                    {"schema": json.dumps(LSST[900])} if known else {"error_code": 40403}
                ).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def leave(self):
        self.server.shutdown()
        self.server.server_close()

    def come_back(self):
        self._start(self.port)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Give a registry and a source of schemas that asks it."""
    from nuncius.alerts.packets.registry import RegistrySchemas

    running = Registry()
    running.schemas = RegistrySchemas(f"http://127.0.0.1:{running.port}", tmp_path / "schemas")
    yield running
    running.leave()


async def test_a_registry_is_asked_once(open_any, server, topic, url, group, registry):
    produce(server, topic, [builders.lsst("9.0")] * 20, partition=0)
    async with open_any(url, group=group, stop="end", schema=registry.schemas, config=QUICK) as stream:
        assert len(await read_all(stream)) == 20
    assert registry.asked == 1


async def test_a_registry_that_is_away_is_no_fault_of_the_packets(
    open_any, server, topic, url, group, registry, folder
):
    produce(server, topic, [packet(0), *[builders.lsst("9.0")] * 3], partition=0)
    registry.leave()
    options = {"group": group, "stop": "end", "schema": registry.schemas, "config": QUICK}
    with pytest.raises(UnreachableError, match="schema registry"):
        async with open_any(url, connect_timeout_s=1, **options) as stream:
            await read_all(stream)
    assert not folder.exists()
    assert committed(server, group, topic)[0] in {None, 0, 1}
    registry.come_back()
    async with open_any(url, **options) as stream:
        assert len(await read_all(stream)) >= 3
    assert committed(server, group, topic)[0] == 4


def test_a_registry_that_comes_back_in_time_is_waited_for(server, topic, url, group, registry, folder):
    produce(server, topic, [builders.lsst("9.0")] * 3, partition=0)
    registry.leave()
    back = threading.Timer(1.0, registry.come_back)
    back.start()
    options = {"group": group, "stop": "end", "schema": registry.schemas, "config": QUICK}
    with open_stream(url, **options) as stream:
        assert len(list(stream)) == 3
    back.join()
    assert not folder.exists()


async def test_a_number_that_the_registry_does_not_know_is_the_packets_fault(
    open_any, server, topic, url, group, registry, folder
):
    unknown = builders.framed(RECORD, {"candid": 1, "maybe": None}, 4711)
    produce(server, topic, [unknown, builders.lsst("9.0")], partition=0)
    async with open_any(url, group=group, stop="end", schema=registry.schemas, config=QUICK) as stream:
        assert len(await read_all(stream)) == 1
    assert list(kept(folder)) == [0]


async def test_the_first_alert_before_a_failure_is_not_lost_by_the_take(
    open_any, server, topic, url, group, registry
):
    """What is before the packet that waits for the registry is handed out while it waits."""
    produce(server, topic, [packet(0), builders.lsst("9.0")], partition=0)
    registry.leave()
    stream = open_any(url, group=group, schema=registry.schemas, connect_timeout_s=3, config=QUICK)
    async with stream:
        (alert,) = await take(stream, 1)
        assert alert.alert_id == 0
        await stream.close()
    registry.come_back()
