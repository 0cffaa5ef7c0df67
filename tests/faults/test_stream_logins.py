"""Logins, certificates and rights that are wrong, run out or are taken away, on a front with TLS before the broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import Counter

import pytest

from nuncius import brokers, open_stream
from nuncius.errors import ForbiddenError, LoginError, NotFoundError, NunciusError, TlsError, UnreachableError
from nuncius.sandbox.front import KafkaFront
from streams_support import QUICK, ids, new_name, opener, packet, packets, produce, read_all, take, wait_until

pytest.importorskip("trustme", reason="needs certificates: pip install 'nuncius[sandbox]'")

USER, SECRET = "vera", "r0tation-curve"


@pytest.fixture(autouse=True)
def own_config_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNCIUS_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def server(nuncius_kafka):
    return nuncius_kafka.url.removeprefix("kafka://")


@pytest.fixture
def topic():
    return new_name("client.topic")


@pytest.fixture
def behind(server):
    """Put a front before the broker."""
    with contextlib.ExitStack() as closing:

        def behind(**options):
            options = {"users": {USER: SECRET}} | options
            return closing.enter_context(KafkaFront(server, **options))

        yield behind


def url_of(front, topic, scheme="antares"):
    return f"{scheme}://{front.server}/{topic}"


def options_of(front, password=SECRET, **more):
    return {"credentials": (USER, password), "ssl_ca_location": front.ssl_ca_location, "group": False, **more}


def shown(error):
    """Return all that an error says, with what it came from."""
    text = ""
    while error is not None:
        text += str(error) + repr(error) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return text


async def refused(stream, kind, match):
    """Open a stream that must be refused in time; return the error."""
    begin = time.monotonic()
    with pytest.raises(kind, match=match) as caught:
        await stream.__aenter__()
    assert time.monotonic() - begin < 6
    assert type(caught.value) is kind
    return caught.value


# Logging in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "plain"])
async def test_who_may_in_reads(open_any, server, behind, topic, mechanism, tls):
    produce(server, topic, packets(20))
    front = behind(mechanisms=mechanism, tls=tls)
    config = {"sasl.mechanism": mechanism, "security.protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT"}
    options = options_of(front, config=config, stop="end")
    async with open_any(url_of(front, topic, "kafka"), **options) as stream:
        assert sorted(ids(await read_all(stream))) == list(range(20))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_key_is_told_in_time_and_never_shown(open_any, server, behind, topic, mechanism):
    produce(server, topic, [])
    front = behind(mechanisms=mechanism)
    options = options_of(front, "wr0ng-secret", config={"sasl.mechanism": mechanism})
    error = await refused(open_any(url_of(front, topic), **options), LoginError, USER)
    assert "wr0ng-secret" not in shown(error)
    assert error.service == "antares"


def test_a_wrong_key_is_told_in_a_loop_too(server, behind, topic):
    produce(server, topic, [])
    front = behind()
    begin = time.monotonic()
    with pytest.raises(LoginError):
        next(open_stream(url_of(front, topic), **options_of(front, "wr0ng-secret")))
    assert time.monotonic() - begin < 6


@pytest.mark.parametrize("ask", ["topics", "lag", "rewind"])
def test_a_wrong_key_is_told_to_who_asks(server, behind, topic, ask):
    produce(server, topic, [])
    front = behind()
    options = {"credentials": (USER, "wr0ng-secret"), "ssl_ca_location": front.ssl_ca_location}
    begin = time.monotonic()
    with pytest.raises(LoginError, match=USER) as caught:
        getattr(brokers, ask)(url_of(front, topic), *(["earliest"] if ask == "rewind" else []), **options)
    assert time.monotonic() - begin < 6
    assert "wr0ng-secret" not in shown(caught.value)


async def test_a_mechanism_that_the_broker_has_not_is_told(open_any, server, behind, topic):
    produce(server, topic, [])
    front = behind(mechanisms="SCRAM-SHA-512")
    error = await refused(open_any(url_of(front, topic), **options_of(front)), LoginError, "PLAIN|SCRAM")
    assert SECRET not in shown(error)


async def test_a_right_that_ends_while_we_read_is_told(open_any, server, behind, topic):
    """The key was taken back: the next connection is refused, and the stream says so."""
    produce(server, topic, packets(20))
    front = behind()
    async with open_any(url_of(front, topic), **options_of(front)) as stream:
        assert len(await take(stream, 20)) == 20
        front.change(users={})
        front.disconnect()
        begin = time.monotonic()
        with pytest.raises(LoginError, match=USER):
            await stream.poll(20)
        assert time.monotonic() - begin < 15


# Certificates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", ["foreign", "wrong-host", "expired"])
async def test_a_wrong_certificate_is_told_in_time(open_any, server, behind, topic, certificate):
    produce(server, topic, [])
    front = behind(certificate=certificate)
    error = await refused(
        open_any(url_of(front, topic), **options_of(front)), TlsError, r"can't be secured.*certificate"
    )
    assert str(front.ssl_ca_location) in str(error)
    assert SECRET not in shown(error)
    assert front.counts()["logins"] == 0, "the key was sent to a server that nobody knows"


@pytest.mark.parametrize("certificate", ["foreign", "wrong-host", "expired"])
def test_a_wrong_certificate_is_told_to_who_asks(server, behind, topic, certificate):
    produce(server, topic, [])
    front = behind(certificate=certificate)
    begin = time.monotonic()
    with pytest.raises(TlsError, match="certificate"):
        brokers.topics(
            url_of(front, topic), credentials=(USER, SECRET), ssl_ca_location=front.ssl_ca_location
        )
    assert time.monotonic() - begin < 6


async def test_the_systems_certificates_hold_by_default(open_any, server, behind, topic):
    produce(server, topic, [])
    front = behind()
    options = options_of(front) | {"ssl_ca_location": None}
    await refused(open_any(url_of(front, topic), **options), TlsError, "ssl_ca_location=FILE")


async def test_tls_where_there_is_none_is_told(open_any, server, behind, topic):
    produce(server, topic, [])
    front, other = behind(tls=False), behind()
    options = options_of(front, connect_timeout_s=3) | {"ssl_ca_location": other.ssl_ca_location}
    begin = time.monotonic()
    with pytest.raises((TlsError, UnreachableError)):
        await open_any(url_of(front, topic), **options).__aenter__()
    assert time.monotonic() - begin < 6


async def test_no_tls_where_there_is_some_is_told(open_any, server, behind, topic):
    produce(server, topic, [])
    front = behind()
    options = options_of(front, connect_timeout_s=3) | {"ssl_ca_location": None}
    options["config"] = {"security.protocol": "SASL_PLAINTEXT"}
    begin = time.monotonic()
    with pytest.raises(NunciusError):
        await open_any(url_of(front, topic), **options).__aenter__()
    assert time.monotonic() - begin < 6
    assert front.counts()["logins"] == 0


# Topics and groups --------------------------------------------------------------------------------------------------------


async def test_an_unknown_topic_is_told_with_those_that_are_close(open_any, server, behind, topic):
    produce(server, topic, [])
    front = behind()
    wrong = topic.removeprefix("client.") + "x"
    error = await refused(open_any(url_of(front, wrong), **options_of(front)), NotFoundError, wrong)
    assert f"Close to it: {wrong[:-1]}" in str(error)


async def test_a_forbidden_topic_is_told(open_any, server, behind, topic):
    """What a broker does not even list looks like a topic that is not there; the message says so."""
    produce(server, topic, packets(4))
    front = behind()
    front.change(forbidden_topics=[topic])
    with pytest.raises((ForbiddenError, NotFoundError), match=topic.removeprefix("client.")):
        await open_any(url_of(front, topic), **options_of(front)).__aenter__()


async def test_a_topic_that_is_forbidden_while_we_read_is_told(open_any, server, behind, topic):
    produce(server, topic, packets(4))
    front = behind()
    config = {"topic.metadata.refresh.interval.ms": 500}
    async with open_any(url_of(front, topic), **options_of(front, config=config)) as stream:
        assert len(await take(stream, 4)) == 4
        front.change(forbidden_topics=[topic])
        front.disconnect()
        begin = time.monotonic()
        with pytest.raises((ForbiddenError, NotFoundError), match=topic.removeprefix("client.")):
            await stream.poll(20)
        assert time.monotonic() - begin < 15


async def test_a_forbidden_group_is_told_with_what_to_do(open_any, server, behind, topic):
    produce(server, topic, packets(4))
    front = behind()
    front.change(forbidden_groups=["not-mine"])
    begin = time.monotonic()
    with pytest.raises(ForbiddenError, match=r"not-mine.*group=False"):
        async with open_any(url_of(front, topic), **options_of(front) | {"group": "not-mine"}) as stream:
            await take(stream, 4)
    assert time.monotonic() - begin < 10
    async with open_any(url_of(front, topic), **options_of(front, stop="end")) as stream:
        assert len(await read_all(stream)) == 4


def test_a_forbidden_group_is_told_to_who_asks(server, behind, topic):
    produce(server, topic, packets(4))
    front = behind()
    front.change(forbidden_groups=["not-mine"])
    options = {"credentials": (USER, SECRET), "ssl_ca_location": front.ssl_ca_location, "group": "not-mine"}
    for ask, more in ((brokers.lag, []), (brokers.rewind, ["earliest"])):
        begin = time.monotonic()
        with pytest.raises(ForbiddenError, match="not-mine"):
            ask(url_of(front, topic), *more, **options)
        assert time.monotonic() - begin < 8


# Outages under TLS --------------------------------------------------------------------------------------------------------


async def gather(stream, wanted, seen, timeout_s=25.0):
    deadline = time.monotonic() + timeout_s
    while not set(wanted) <= set(seen) and time.monotonic() < deadline:
        alert = await stream.poll(0.2)
        if alert is not None:
            seen[alert.alert_id] += 1
    assert set(wanted) <= set(seen)


class Rogue:
    """Stands on the port of a front that is down, and treats who comes as a host in trouble would."""

    def __init__(self, front, manner):
        self._manner = manner
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((front.host, front.port))
        self._socket.listen(64)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.count = 0

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.count += 1
                with contextlib.suppress(OSError):
                    connection.settimeout(2)
                    connection.recv(100)
                    if self._manner == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    elif self._manner == "nonsense":
                        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                connection.close()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.mark.mock_cluster
@pytest.mark.parametrize("manner", ["refuse", "close", "reset", "nonsense"])
@pytest.mark.parametrize("with_group", [True, False], ids=["group", "no group"])
async def test_a_broker_that_restarts_behind_tls_is_gone_on_with(server, behind, topic, manner, with_group):
    """Connections break in the middle of a handshake then; that is an outage, and no wrong certificate."""
    produce(server, topic, packets(50))
    front, seen = behind(mechanisms="SCRAM-SHA-512"), Counter()
    options = options_of(front)
    if with_group:
        options |= {"group": new_name("group"), "config": QUICK}
    async with opener("async")(url_of(front, topic, "kafka"), **options) as stream:
        await gather(stream, range(50), seen)
        front.change(listening=False)
        rogue = None if manner == "refuse" else Rogue(front, manner)
        front.disconnect()
        begin = time.monotonic()
        while time.monotonic() - begin < 2:
            assert await stream.poll(0.2) is None
        assert stream.stats().last_error is not None
        if rogue is not None:
            rogue.close()
            assert rogue.count > 0
        front.change(listening=True)
        produce(server, topic, packets(50, first=50))
        await gather(stream, range(100), seen)
        assert stream.stats().last_error is None
    assert sum(seen.values()) - 100 <= (50 if with_group else 0)


async def test_connections_that_break_all_the_time(open_any, server, behind, topic):
    produce(server, topic, packets(2000))
    front, seen = behind(mechanisms="SCRAM-SHA-512"), Counter()
    stop = threading.Event()

    def disturb():
        while not stop.wait(0.25):
            front.disconnect()

    disturbing = threading.Thread(target=disturb)
    async with open_any(url_of(front, topic, "kafka"), **options_of(front)) as stream:
        disturbing.start()
        try:
            while len(seen) < 2000:
                alert = await stream.poll(20)
                assert alert is not None
                seen[alert.alert_id] += 1
                await asyncio.sleep(0.0005)
        finally:
            stop.set()
            disturbing.join()
    assert set(seen) == set(range(2000))
    assert max(seen.values()) == 1


async def test_a_login_that_must_be_renewed(open_any, server, behind, topic):
    produce(server, topic, packets(20))
    front, seen = behind(mechanisms="SCRAM-SHA-512", max_session_s=2), Counter()
    async with open_any(url_of(front, topic, "kafka"), **options_of(front)) as stream:
        for number in range(5):
            produce(server, topic, [packet(100 + number)])
            await gather(stream, [100 + number], seen)
            await asyncio.sleep(1)
    assert front.counts()["renewals"] + front.counts()["logins"] >= 3
    assert set(seen) == {*range(20), *range(100, 105)}


# Tokens -------------------------------------------------------------------------------------------------------------------

NOTICES = "igwn.gwalert"


@pytest.fixture
def notices(server):
    """Send notices to GCN's topic; return their ids."""

    def notices(count):
        names = [new_name("S") for _ in range(count)]
        texts = [b'{"superevent_id": "%s", "alert_type": "INITIAL"}' % name.encode() for name in names]
        produce(server, NOTICES, texts)
        return names

    return notices


def token_options(front, password=SECRET, **more):
    config = {"sasl.oauthbearer.token.endpoint.url": front.token_url}
    return options_of(front, password, config=config, start="latest", **more)


async def wait_for(stream, names, timeout_s=20.0):
    left, deadline = set(names), time.monotonic() + timeout_s
    while left and time.monotonic() < deadline:
        notice = await stream.poll(0.2)
        if notice is not None:
            left -= {name for name in left if name in str(notice.packet)}
    assert not left


@pytest.mark.timeout(60)
def test_a_token_that_expires_is_renewed_and_reading_goes_on(server, behind, notices):
    front = behind(mechanisms=("OAUTHBEARER",), token_lifetime_s=15)
    notices(1)
    with open_stream(url_of(front, NOTICES, "gcn"), **token_options(front)) as stream:
        stream.poll(0.5)
        begin = time.monotonic()
        while time.monotonic() - begin < 20:
            left = set(notices(2))
            while left:
                notice = stream.poll(5)
                assert notice is not None, f"nothing came after {time.monotonic() - begin:.0f} s"
                left -= {name for name in left if name in str(notice.packet)}
            assert stream.stats().last_error is None
            time.sleep(0.5)
    counts = front.counts()
    assert counts["tokens"] >= 2
    assert counts["refused"] == 0


async def test_a_wrong_client_secret_is_told_in_time_and_never_shown(open_any, behind, notices):
    front = behind(mechanisms=("OAUTHBEARER",))
    notices(1)
    stream = open_any(url_of(front, NOTICES, "gcn"), **token_options(front, "wr0ng-secret"))
    assert "wr0ng-secret" not in shown(await refused(stream, LoginError, USER))


@pytest.mark.parametrize(
    "trouble", [{"token_listening": False}, {"token_status": 503}, {"token_delay_s": 30}], ids=str
)
async def test_a_token_endpoint_in_trouble_is_not_a_wrong_secret(open_any, behind, notices, trouble):
    front = behind(mechanisms=("OAUTHBEARER",))
    notices(1)
    front.change(**trouble)
    begin = time.monotonic()
    stream = open_any(url_of(front, NOTICES, "gcn"), **token_options(front, connect_timeout_s=3))
    with pytest.raises(UnreachableError) as caught:
        await stream.__aenter__()
    assert time.monotonic() - begin < 6
    assert front.token_url in str(caught.value)
    assert SECRET not in shown(caught.value)


@pytest.mark.timeout(90)
def test_a_token_endpoint_that_is_in_trouble_for_a_while(behind, notices):
    """Longer than the token lives: reading stops, and goes on when there are tokens again."""
    front = behind(mechanisms=("OAUTHBEARER",), token_lifetime_s=4)
    notices(1)
    with open_stream(url_of(front, NOTICES, "gcn"), **token_options(front)) as stream:
        stream.poll(0.5)
        front.change(token_listening=False)
        begin = time.monotonic()
        told = False
        while time.monotonic() - begin < 8:
            stream.poll(0.5)
            told = told or stream.stats().last_error is not None
        assert told
        front.change(token_listening=True, token_lifetime_s=3600)
        left, deadline = set(notices(4)), time.monotonic() + 40
        while left and time.monotonic() < deadline:
            notice = stream.poll(0.5)
            if notice is not None:
                left -= {name for name in left if name in str(notice.packet)}
        assert not left
        assert wait_until(lambda: stream.stats().last_error is None)


@pytest.mark.timeout(60)
def test_a_client_that_is_no_longer_known_is_told(behind, notices):
    front = behind(mechanisms=("OAUTHBEARER",), token_lifetime_s=4)
    notices(1)
    with open_stream(url_of(front, NOTICES, "gcn"), **token_options(front)) as stream:
        stream.poll(0.5)
        front.change(users={})
        begin = time.monotonic()
        with pytest.raises(LoginError, match=USER):
            stream.poll(30)
        assert time.monotonic() - begin < 20
