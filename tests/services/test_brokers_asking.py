"""Questions to a broker by who reads nothing: its topics, how far a group has come, and going back."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException

from nuncius import brokers, open_stream
from nuncius.brokers.places import parse_place
from nuncius.errors import ConfigurationError, NotFoundError, UnreachableError
from nuncius.streams.bounds import Start
from nuncius.streams.kafka.asking import Asker, Lag
from nuncius.streams.kafka.faults import Translator
from nuncius.streams.kafka.positions import Positions
from streams_support import (
    PARTITIONS,
    QUICK,
    committed,
    committed_sum,
    ids,
    new_name,
    packets,
    produce,
    wait_until,
)


@pytest.fixture
def url(server, topic):
    return f"kafka://{server}/{topic}"


def read(url, group, **options):
    with open_stream(url, group=group, **{"stop": "end", "config": QUICK, **options}) as stream:
        return ids(stream)


# Topics -------------------------------------------------------------------------------------------------------------------


def test_the_topics_of_a_broker(server, topic):
    produce(server, topic, [])
    produce(server, topic + "-more", [])
    for url in (f"kafka://{server}", f"kafka://{server}/", f"kafka://{server}/anything"):
        names = brokers.topics(url)
        assert {topic, topic + "-more"} <= set(names)
        assert names == sorted(names)
        assert not any(name.startswith("__") for name in names)


def test_topics_as_the_users_of_the_broker_know_them(server, topic):
    produce(server, "client." + topic, [])
    config = {"security.protocol": "PLAINTEXT"}
    names = brokers.topics(f"antares://{server}/x", credentials=("a", "b"), config=config)
    assert topic in names
    assert "client." + topic not in names


def test_a_broker_that_does_not_answer_is_told_in_time():
    begin = time.monotonic()
    for ask in (brokers.topics, lambda url, **o: brokers.lag(url, group="g", **o)):
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9.*within 1 s"):
            ask("kafka://127.0.0.1:9/x", timeout_s=1)
    assert time.monotonic() - begin < 5


def test_a_name_that_nobody_knows_is_told_in_time():
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no\.such\.host"):
        brokers.topics("kafka://no.such.host.invalid:1", timeout_s=2)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("url", ["kafka://", "gopher://x", "", "ztf://"])
def test_a_url_that_names_no_broker_is_refused(url):
    with pytest.raises(ConfigurationError):
        brokers.topics(url)


@pytest.mark.parametrize("ask", [brokers.lag, lambda url, **o: brokers.rewind(url, "earliest", **o)])
def test_lag_needs_a_topic(server, ask):
    with pytest.raises(ConfigurationError, match="topic"):
        ask(f"kafka://{server}", group="g")


def test_a_setting_that_is_refused_is_told(server):
    with pytest.raises(ConfigurationError, match="config="):
        brokers.topics(f"kafka://{server}", config={"no.such.setting": 1})


# Lag ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("committed", "first", "end", "waiting", "expired"),
    [(None, 0, 10, 10, 0), (None, 4, 10, 6, 0), (0, 0, 10, 10, 0), (10, 0, 10, 0, 0), (3, 5, 10, 5, 2),
     (3, 10, 10, 0, 7), (0, 0, 0, 0, 0), (12, 0, 10, 0, 0), (None, 10, 10, 0, 0)],
)  # fmt: skip
def test_what_a_lag_says(committed, first, end, waiting, expired):
    lag = Lag(committed, first, end)
    assert (lag.waiting, lag.expired) == (waiting, expired)


def test_a_group_that_has_read_nothing(server, topic, url, group):
    produce(server, topic, packets(40))
    found = brokers.lag(url, group=group)
    assert set(found) == {(topic, number) for number in range(PARTITIONS)}
    assert all(
        (lag.committed, lag.first, lag.end, lag.waiting) == (None, 0, 10, 10) for lag in found.values()
    )


def test_a_group_that_has_read_a_part(server, topic, url, group):
    produce(server, topic, packets(40))
    assert len(read(url, group, stop=25)) == 25
    assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == 15
    assert len(read(url, group)) == 15
    found = brokers.lag(url, group=group)
    assert all((lag.committed, lag.waiting, lag.expired) == (10, 0, 0) for lag in found.values())


def test_asking_does_not_disturb_who_reads(server, topic, url, group):
    produce(server, topic, packets(400))
    with open_stream(url, group=group, config=QUICK) as stream:
        seen = [next(stream).alert_id for _ in range(100)]
        for _ in range(3):
            assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) <= 400
        seen += [next(stream).alert_id for _ in range(300)]
        assert wait_until(lambda: sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == 1)
    assert sorted(seen) == list(range(400))
    assert sum(lag.waiting for lag in brokers.lag(url, group=group).values()) == 0


def test_the_group_is_ones_own_by_default(server, topic, url):
    produce(server, topic, packets(40))
    assert len(read(url, None, stop=10)) == 10
    assert sum(lag.waiting for lag in brokers.lag(url).values()) == 30


def test_the_group_of_the_settings(server, topic, url, group, monkeypatch):
    produce(server, topic, packets(40))
    assert len(read(url, group, stop=10)) == 10
    monkeypatch.setenv("NUNCIUS_KAFKA_GROUP", group)
    assert sum(lag.waiting for lag in brokers.lag(url).values()) == 30


def test_several_topics_and_patterns(server, topic, group):
    for name in ("a", "b", "c"):
        produce(server, f"{topic}-{name}", packets(4))
    found = brokers.lag(f"kafka://{server}/{topic}-a,{topic}-c", group=group)
    assert {name for name, _ in found} == {f"{topic}-a", f"{topic}-c"}
    found = brokers.lag(f"kafka://{server}/^{topic}-[bc]", group=group)
    assert {name for name, _ in found} == {f"{topic}-b", f"{topic}-c"}


@pytest.mark.parametrize("ask", [brokers.lag, lambda url, **o: brokers.rewind(url, "earliest", **o)])
def test_a_topic_that_is_not_there_is_told_with_what_is_close(server, topic, ask):
    produce(server, topic, [])
    with pytest.raises(NotFoundError, match=topic) as caught:
        ask(f"kafka://{server}/{topic}x", group="g")
    assert f"Close to it: {topic}" in str(caught.value)
    with pytest.raises(NotFoundError):
        ask(f"kafka://{server}/^{topic}-nothing", group="g")


@pytest.mark.parametrize("pattern", ["^(", "^[a", "^*"])
def test_a_pattern_that_is_none_is_told(server, pattern):
    from urllib.parse import quote

    with pytest.raises(ConfigurationError, match="regular expression"):
        brokers.lag(f"kafka://{server}/{quote(pattern)}", group="g")


# Going back (the mock cluster refuses to move a group that ever had members; tests/peers/kafka asks a real one) ---------------------------------------------------------------------------------------------------------------


def test_back_to_the_beginning(server, topic, url, group):
    produce(server, topic, packets(40))
    brokers.rewind(url, "latest", group=group)
    assert brokers.rewind(url, "earliest", group=group) == {
        (topic, number): 0 for number in range(PARTITIONS)
    }
    assert set(committed(server, group, topic).values()) == {0}
    assert sorted(read(url, group)) == list(range(40))


def test_on_to_the_end(server, topic, url, group):
    produce(server, topic, packets(40))
    assert brokers.rewind(url, "latest", group=group) == {(topic, number): 10 for number in range(PARTITIONS)}
    assert read(url, group) == []
    produce(server, topic, packets(4, first=100))
    assert sorted(read(url, group)) == list(range(100, 104))


def test_of_a_group_that_has_read_nothing(server, topic, url, group):
    """A position before the first reading: the first run begins there, whatever its start= says."""
    produce(server, topic, packets(40))
    brokers.rewind(url, "latest", group=group)
    produce(server, topic, packets(4, first=100))
    assert sorted(read(url, group, start="earliest")) == list(range(100, 104))


def test_to_a_time(server, topic, url, group, monkeypatch):
    """The mock cluster knows no times, so the answer is given here; a real one is asked in tests/peers/kafka."""
    asked = []

    class WithTimes(confluent_kafka.Consumer):
        def offsets_for_times(self, parts, timeout=None):
            if parts[0].offset < 0:  # the first, or the end
                return super().offsets_for_times(parts, timeout=timeout)
            asked.extend(part.offset for part in parts)
            return [
                confluent_kafka.TopicPartition(part.topic, part.partition, 3 if part.partition < 3 else -1)
                for part in parts
            ]

    monkeypatch.setattr(confluent_kafka, "Consumer", WithTimes)
    produce(server, topic, packets(40))
    when = datetime(2026, 11, 20, 3, tzinfo=UTC)
    moved = brokers.rewind(url, when, group=group)
    assert moved == {(topic, 0): 3, (topic, 1): 3, (topic, 2): 3, (topic, 3): 10}
    assert set(asked) == {int(when.timestamp() * 1000)}
    assert committed_sum(server, group, topic) == 19


@pytest.mark.parametrize(
    "to", ["committed", "", None, "yesterday", 5, "2h", datetime(2026, 1, 1)]
)  # a naive time
def test_a_place_that_means_nothing_is_refused_and_nothing_is_moved(server, topic, url, group, to):
    produce(server, topic, packets(4))
    with pytest.raises(ConfigurationError):
        brokers.rewind(url, to, group=group)
    assert set(committed(server, group, topic).values()) == {None}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_refused_while_somebody_reads(server, topic, url, group, protocol):
    produce(server, topic, packets(40))
    with open_stream(url, group=group, config={"group.protocol": protocol}) as stream:
        assert len([next(stream) for _ in range(40)]) == 40
        with pytest.raises(ConfigurationError, match=f"somebody reads with the group '{group}'"):
            brokers.rewind(url, "earliest", group=group)
        produce(server, topic, packets(4, first=40))
        assert sorted(ids(next(stream) for _ in range(4))) == list(range(40, 44))
    assert committed_sum(server, group, topic) == 44


def test_only_the_topics_that_were_named(server, topic, group):
    for name in ("a", "b"):
        produce(server, f"{topic}-{name}", packets(4))
    brokers.rewind(f"kafka://{server}/{topic}-a,{topic}-b", "latest", group=group)
    brokers.rewind(f"kafka://{server}/{topic}-a", "earliest", group=group)
    assert committed_sum(server, group, f"{topic}-a") == 0
    assert committed_sum(server, group, f"{topic}-b") == 4


# Over an ocean ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_many_partitions_of_a_distant_broker_are_asked_about_at_once(server, topic, group):
    from nuncius.sandbox.front import KafkaFront

    names = [f"{topic}-{number}" for number in range(10)]
    for name in names:
        produce(server, name, packets(4))
    with KafkaFront(server, mechanisms=(), tls=False) as front:
        front.change(delay_s=0.1)
        begin = time.monotonic()
        found = brokers.lag(f"kafka://{front.server}/{','.join(names)}", group=group, timeout_s=20)
        assert time.monotonic() - begin < 5
    assert sum(lag.waiting for lag in found.values()) == 40


# Odd answers --------------------------------------------------------------------------------------------------------------


def part(partition, offset, error=None):
    return SimpleNamespace(topic="alerts", partition=partition, offset=offset, error=error)


class Odd:
    """Answers what a client of a busy cluster answers."""

    def __init__(self, answer):
        self.answer = answer

    def offsets_for_times(self, parts, timeout):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    committed = offsets_for_times


@pytest.fixture
def faults():
    return Translator(parse_place("kafka://broker:1/alerts").connection(), "g")


KEYS = [("alerts", 0), ("alerts", 1)]


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE,
                                  KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._TIMED_OUT])  # fmt: skip
@pytest.mark.parametrize("whole", [True, False], ids=["all", "one partition"])
def test_a_place_that_is_not_known_now_is_not_taken_for_the_end(faults, code, whole):
    """While leaders move, the answer for a partition is an error: to begin at its end then would lose alerts."""
    error = KafkaError(code)
    answer = KafkaException(error) if whole else [part(0, 5), part(1, -1001, error)]
    positions = Positions(Odd(answer), faults, 1.0)
    for ask in (
        lambda: positions.at(Start("time", 1.0), KEYS),
        lambda: positions.at(Start("latest"), KEYS),
        lambda: positions.watermarks(KEYS),
    ):
        with pytest.raises(UnreachableError):
            ask()


def test_a_committed_position_that_is_not_known_now_is_not_taken_for_none(faults):
    busy = KafkaError(KafkaError.NOT_COORDINATOR)
    with pytest.raises(UnreachableError):
        Positions(Odd([part(0, 5), part(1, -1001, busy)]), faults, 1.0).committed(KEYS)
    assert Positions(Odd([part(0, 5), part(1, -1001)]), faults, 1.0).committed(KEYS) == {KEYS[0]: 5}


def test_nothing_is_asked_about_nothing(faults):
    positions = Positions(Odd(AssertionError("asked")), faults, 1.0)
    assert positions.at(Start("time", 1.0), []) == {}
    assert positions.watermarks([]) == {}


def test_a_commit_that_is_refused_for_one_partition_is_told(server, topic, url, monkeypatch):
    produce(server, topic, packets(4))

    class Refused(confluent_kafka.Consumer):
        def commit(self, offsets, asynchronous):
            return [
                SimpleNamespace(
                    topic=one.topic, partition=one.partition, error=KafkaError(KafkaError.UNKNOWN_MEMBER_ID)
                )
                for one in offsets
            ]

    monkeypatch.setattr(confluent_kafka, "Consumer", Refused)
    with pytest.raises(ConfigurationError, match="somebody reads"):
        brokers.rewind(url, "earliest", group=new_name("group"))


def test_one_asker_answers_several_questions(server, topic, url, group):
    produce(server, topic, packets(8))
    with Asker(parse_place(url).connection(), group=group, timeout_s=5) as asker:
        assert topic in asker.topics()
        assert sum(lag.waiting for lag in asker.lag([topic]).values()) == 8
        assert set(asker.watermarks([topic]).values()) == {(0, 2)}
        asker.rewind([topic], Start("latest"))
        assert sum(lag.waiting for lag in asker.lag([topic]).values()) == 0
