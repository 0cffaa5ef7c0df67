"""GCN: a topic tells the form of its notices."""

from __future__ import annotations

import json

import pytest
from test_notices import CIRCULAR, GW, TEXT, UNIFIED, VOEVENT

from nuncius.alerts import Notice, Origin
from nuncius.brokers.gcn import Gcn
from nuncius.errors import PacketError
from nuncius.streams.transport import Message


def read(topic, raw):
    origin = Origin("kafka", topic, 0, 1, broker="gcn")
    items = Gcn().reader()(Message(topic, 0, 1, raw), origin)
    assert all(item.origin is origin for item in items)
    return items


@pytest.mark.parametrize(
    ("topic", "raw", "name"),
    [
        ("gcn.classic.voevent.EXAMPLE", VOEVENT, "ivo://example.org/burst#B123_2026-11-20T04:05:06.78_7"),
        ("gcn.classic.text.EXAMPLE", TEXT, "648816845/65"),
        ("gcn.notices.example.burst", json.dumps(UNIFIED).encode(), "GRB 261120A/707/update/3"),
        ("gcn.notices.svom.voevent.grm", VOEVENT, "ivo://example.org/burst#B123_2026-11-20T04:05:06.78_7"),
        ("gcn.circulars", json.dumps({"circularId": 1, "subject": "S", "body": "B"}).encode(), "1"),
        ("gcn.circulars", CIRCULAR, "98765"),
        ("igwn.gwalert", json.dumps(GW).encode(), "S261120ab/PRELIMINARY/2026-11-20T04:10:00Z"),
        ("gcn.heartbeat", b'{"alert_datetime": "2026-11-20T04:07:01.5Z"}', "2026-11-20T04:07:01.5Z"),
    ],
)
def test_topics(topic, raw, name):
    [notice] = read(topic, raw)
    assert isinstance(notice, Notice)
    assert (notice.id, notice.kind, notice.raw) == (name, topic, raw)
    assert notice.key == ("notice", topic, name)


@pytest.mark.parametrize(
    ("topic", "raw"),
    [
        ("gcn.classic.voevent.EXAMPLE", TEXT),
        ("gcn.classic.text.EXAMPLE", VOEVENT),
        ("igwn.gwalert", VOEVENT),
        ("gcn.circulars", VOEVENT),
        ("gcn.notices.example", b"\x00\x01\x02\x03"),
        ("gcn.notices.example", b""),
    ],
)
def test_what_a_topic_does_not_promise_is_refused(topic, raw):
    with pytest.raises(PacketError):
        read(topic, raw)


def test_binary_notices_are_refused_with_the_cure():
    with pytest.raises(PacketError, match=r"gcn\.classic\.voevent\.FERMI"):
        read("gcn.classic.binary.FERMI", bytes(160))


@pytest.mark.parametrize(
    ("servers", "url"),
    [
        ("kafka.gcn.nasa.gov:9092", "https://auth.gcn.nasa.gov/oauth2/token"),
        ("kafka.test.gcn.nasa.gov:9092", "https://auth.test.gcn.nasa.gov/oauth2/token"),
        ("kafka.dev.gcn.nasa.gov", "https://auth.dev.gcn.nasa.gov/oauth2/token"),
        ("127.0.0.1:9092", "https://auth.gcn.nasa.gov/oauth2/token"),
        ("kafka.evilgcn.nasa.gov:9092", "https://auth.gcn.nasa.gov/oauth2/token"),
        ("kafka.evil.example:9092", "https://auth.gcn.nasa.gov/oauth2/token"),
        ("kafka.evilgcn.nasa.gov.example:9092", "https://auth.gcn.nasa.gov/oauth2/token"),
    ],
)
def test_tokens_come_from_the_domain_of_the_servers(servers, url):
    security = Gcn().security(servers)
    assert (security.mechanism, security.tls, security.token_url) == ("OAUTHBEARER", True, url)
