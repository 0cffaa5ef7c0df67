"""Topics, subscriptions and leases of the sandbox's Pub/Sub server, without a socket and without waiting."""

import threading
from types import SimpleNamespace

import pytest

from nuncius.errors import AlreadyExistsError, ConfigurationError, FilterError, NotFoundError
from nuncius.sandbox.pubsub.faults import PubSubFault, PubSubFaults
from nuncius.sandbox.pubsub.state import PubSubState
from nuncius.sandbox.pubsub.subscription import Holder
from nuncius.sandbox.pubsub.values import Clock, SubscriptionConfig, check_path

TOPIC = "projects/sky/topics/alerts"
SUBSCRIPTION = "projects/sky/subscriptions/alerts"


class Stopped(Clock):
    """A clock that only tests move."""

    def __init__(self):
        self._ahead = 1_790_000_000.0

    def __call__(self):
        return self._ahead


def new_state():
    state = PubSubState(Stopped())
    state.create_topic(TOPIC)
    return state


@pytest.fixture
def state():
    state = new_state()
    with state.changed:  # as whoever calls a subscription's methods must
        yield state


def subscribe(state, name=SUBSCRIPTION, **options):
    return state.create_subscription(SubscriptionConfig(name, TOPIC, **options))


def publish(state, *data, key="", topic=TOPIC, **attributes):
    return state.publish(topic, [(each, attributes, key) for each in data])


def take(queue, most=1000, holder=None, most_bytes=10**9):
    return queue.take(holder or Holder(queue.config.ack_deadline_s), max_messages=most, max_bytes=most_bytes)


def data(leases):
    return b"".join(lease.entry.message.data for lease in leases)


def ids(leases):
    return [lease.ack_id for lease in leases]


def counted(queue, **expected):
    counts = queue.counts()._asdict()
    assert {name: counts[name] for name in expected} == expected


# Leases -----------------------------------------------------------------------------------------------------------------


def test_what_is_acknowledged_is_gone(state):
    queue = subscribe(state)
    assert publish(state, b"a", b"b", b"c") == ["1", "2", "3"]
    leases = take(queue, 2)
    assert data(leases) == b"ab"
    assert data(take(queue)) == b"c"
    counted(queue, waiting=0, leased=3, delivered=3)
    queue.acknowledge(ids(leases))
    state.clock.advance(3600)
    assert data(take(queue)) == b"c"
    counted(queue, acknowledged=2, expired=1, delivered=4, leased=1)


def test_a_lease_ends(state):
    queue = subscribe(state, ack_deadline_s=30)
    publish(state, b"a")
    (lease,) = take(queue)
    state.clock.advance(29.9)
    assert take(queue) == []
    assert queue.until_next() == pytest.approx(0.1)
    state.clock.advance(0.2)
    (again,) = take(queue)
    assert (again.attempt, again.ack_id != lease.ack_id) == (2, True)
    queue.acknowledge([lease.ack_id])
    counted(queue, expired=1, late=1, acknowledged=0, leased=1)


def test_a_lease_is_made_longer_and_shorter(state):
    queue = subscribe(state)
    publish(state, b"a", b"b")
    leases = take(queue)
    queue.modify(ids(leases), 100)
    state.clock.advance(60)
    assert take(queue) == []
    queue.modify(ids(leases[:1]), 10)
    state.clock.advance(11)
    assert data(take(queue)) == b"a"
    counted(queue, leased=2, expired=1)
    queue.modify(["nothing of ours"], 10)
    counted(queue, leased=2)


def test_a_released_message_comes_again_at_once(state):
    queue = subscribe(state)
    publish(state, b"a", b"b")
    (first,) = take(queue, 1)
    queue.modify([first.ack_id], 0)
    assert data(take(queue)) == b"ba"
    counted(queue, released=1, expired=0, leased=2, delivered=3)


def test_what_was_never_sent_is_as_if_it_had_not_been_taken(state):
    queue = subscribe(state)
    publish(state, b"a", b"b", b"c")
    queue.give_back(take(queue, 2))
    leases = take(queue)
    assert data(leases) == b"abc"
    assert [lease.attempt for lease in leases] == [1, 1, 1]
    counted(queue, delivered=3, released=0, expired=0)


def test_many_extensions_cost_no_memory(state):
    """A handler that works for hours has its leases extended thousands of times."""
    queue = subscribe(state)
    publish(state, *[b"x"] * 10)
    leases = ids(take(queue))
    for _ in range(1000):
        state.clock.advance(5)
        queue.modify(leases, 10)
    assert len(queue._ends) < 2000
    queue.acknowledge(leases)
    counted(queue, acknowledged=10, expired=0)


def test_a_message_sent_twice(state):
    queue = subscribe(state)
    publish(state, b"a", b"b")
    queue.repeats = 1
    leases = take(queue)
    assert data(leases) == b"aab"
    queue.modify([leases[0].ack_id], 0)
    assert take(queue) == []  # the other one still has it
    queue.acknowledge([leases[1].ack_id, leases[2].ack_id])
    counted(queue, acknowledged=2, waiting=0, leased=0, delivered=3)


def test_how_much_somebody_may_have(state):
    queue = subscribe(state)
    publish(state, *[b"x" * 1000] * 5)
    few = Holder(10, max_messages=2)
    leases = take(queue, holder=few)
    assert len(leases) == 2
    assert take(queue, holder=few) == []
    queue.acknowledge(ids(leases[:1]))
    assert len(take(queue, holder=few)) == 1
    small = Holder(10, max_bytes=1500)
    assert len(take(queue, holder=small)) == 2  # sending stops when the limit is reached or passed
    assert take(queue, holder=small) == []
    state.clock.advance(11)
    assert len(take(queue, holder=small)) == 2
    counted(queue, expired=4)


def test_how_much_an_answer_holds(state):
    queue = subscribe(state)
    publish(state, b"x" * 5000, b"y" * 400, b"z" * 400)
    assert [len(take(queue, most_bytes=1000)) for _ in range(3)] == [1, 2, 0]


def test_a_deleted_subscription(state):
    queue = subscribe(state)
    state.delete_subscription(SUBSCRIPTION)
    with pytest.raises(NotFoundError, match="was deleted"):
        take(queue)
    with pytest.raises(NotFoundError, match="no subscription"):
        state.subscription(SUBSCRIPTION)
    assert publish(state, b"a") == ["1"]


def test_whoever_waits_is_woken():
    state = new_state()
    queue = subscribe(state)
    taken = []

    def wait():
        with queue.changed:
            while not taken:
                taken.extend(take(queue))
                if not taken:
                    queue.changed.wait(20)

    waiting = threading.Thread(target=wait)
    waiting.start()
    publish(state, b"a")
    waiting.join(10)
    assert data(taken) == b"a"


# Order, filters, dead letters, backoff ----------------------------------------------------------------------------------


def test_the_next_of_a_key_waits_for_the_one_before(state):
    queue = subscribe(state, ordering=True)
    publish(state, b"1", b"2", b"3", key="star")
    publish(state, b"x", key="other")
    publish(state, b"-")
    leases = take(queue)
    assert sorted(data(leases)) == sorted(b"1x-")
    assert take(queue) == []
    queue.modify(ids(leases[:1]), 0)
    (again,) = take(queue)
    assert data([again]) == b"1"
    queue.acknowledge([again.ack_id])
    (second,) = take(queue)
    assert data([second]) == b"2"
    state.clock.advance(5)
    publish(state, b"4", key="star")
    state.clock.advance(6)
    assert sorted(data(take(queue))) == sorted(b"2x-")
    counted(queue, acknowledged=1, expired=3, waiting=2)


def test_without_ordering_keys_mean_nothing(state):
    queue = subscribe(state)
    publish(state, b"1", b"2", key="star")
    assert data(take(queue)) == b"12"


def test_a_filter(state):
    queue = subscribe(state, filter='attributes.pg_variable = "likely"')
    everything = subscribe(state, "projects/sky/subscriptions/all")
    publish(state, b"a", pg_variable="likely")
    publish(state, b"b", pg_variable="unlikely")
    publish(state, b"c")
    assert data(take(queue)) == b"a"
    assert data(take(everything)) == b"abc"
    counted(queue, filtered=2, waiting=0)


def test_dead_letters(state):
    state.create_topic("projects/sky/topics/dead")
    dead = state.create_subscription(
        SubscriptionConfig("projects/sky/subscriptions/dead", "projects/sky/topics/dead")
    )
    queue = subscribe(state, dead_letter_topic="projects/sky/topics/dead", max_delivery_attempts=3)
    publish(state, b"poison", survey="ztf")
    for attempt in (1, 2, 3):
        (lease,) = take(queue)
        assert lease.attempt == attempt
        if attempt == 2:
            state.clock.advance(11)  # an end of the lease counts as well
        else:
            queue.modify([lease.ack_id], 0)
    assert take(queue) == []
    counted(queue, dead_lettered=1, released=2, expired=1, waiting=0)
    (lease,) = take(dead)
    assert lease.entry.message.data == b"poison"
    assert lease.entry.message.attributes == {
        "survey": "ztf",
        "CloudPubSubDeadLetterSourceDeliveryCount": "3",
        "CloudPubSubDeadLetterSourceSubscription": "alerts",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "sky",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "1790000000.000000",
    }


def test_dead_letters_without_their_topic_come_again(state):
    queue = subscribe(state, dead_letter_topic="projects/sky/topics/dead", max_delivery_attempts=1)
    publish(state, b"poison")
    for _ in range(3):
        queue.modify(ids(take(queue)), 0)
    assert data(take(queue)) == b"poison"


def test_backoff_doubles_up_to_a_maximum(state):
    queue = subscribe(state, min_backoff_s=10, max_backoff_s=30)
    publish(state, b"a")
    for wait_s in (10, 20, 30, 30):
        queue.modify(ids(take(queue)), 0)
        assert queue.until_next() == pytest.approx(wait_s)
        state.clock.advance(wait_s - 0.1)
        assert take(queue) == []
        state.clock.advance(0.2)
    assert len(take(queue)) == 1


# Going back -------------------------------------------------------------------------------------------------------------


def test_seek_to_a_time(state):
    queue = subscribe(state, retain_acked=True)
    forgets = subscribe(state, "projects/sky/subscriptions/forgets")
    times = []
    for night in (b"1", b"2", b"3"):
        times.append(state.clock())
        publish(state, night)
        state.clock.advance(100)
    for each in (queue, forgets):
        each.acknowledge(ids(take(each, 2)))
        each.acknowledge([ids(take(each, 1))[0]] if each is queue else [])
    state.seek_to_time(queue.config.path, times[1])
    assert data(take(queue)) == b"23"
    state.seek_to_time(forgets.config.path, times[0])
    assert data(take(forgets)) == b"3"  # it kept only what it had not acknowledged
    state.seek_to_time(queue.config.path, times[0])
    leases = take(queue)
    assert data(leases) == b"123"
    assert [lease.attempt for lease in leases] == [1, 1, 1]
    state.seek_to_time(queue.config.path, state.clock())
    assert take(queue) == []
    counted(queue, waiting=0, leased=0)


def test_seek_ends_leases(state):
    queue = subscribe(state)
    publish(state, b"a")
    holder = Holder(10, max_messages=1)
    old = take(queue, holder=holder)
    state.seek_to_time(SUBSCRIPTION, 0)
    queue.acknowledge(ids(old))
    counted(queue, late=1, waiting=1)
    assert data(take(queue, holder=holder)) == b"a"


def test_a_topic_keeps_what_came_before_a_subscription(state):
    state.create_topic("projects/sky/topics/kept", retention_s=1000)
    publish(state, b"old", topic="projects/sky/topics/kept")
    state.clock.advance(600)
    publish(state, b"new", topic="projects/sky/topics/kept", survey="ztf")
    publish(state, b"no", topic="projects/sky/topics/kept")
    queue = state.create_subscription(
        SubscriptionConfig(SUBSCRIPTION, "projects/sky/topics/kept", filter="attributes:survey")
    )
    everything = state.create_subscription(
        SubscriptionConfig("projects/sky/subscriptions/all", "projects/sky/topics/kept")
    )
    assert take(queue) == []
    for each in (queue, everything):
        state.seek_to_time(each.config.path, 0)
    assert data(take(queue)) == b"new"
    assert data(take(everything)) == b"oldnewno"
    state.clock.advance(500)
    state.seek_to_time(everything.config.path, 0)
    assert data(take(everything)) == b"oldnewno"  # not acknowledged: the subscription has it itself


def test_retention_of_a_subscription(state):
    queue = subscribe(state, retention_s=600)
    publish(state, b"a")
    state.clock.advance(601)
    publish(state, b"b")
    assert data(take(queue)) == b"b"
    counted(queue, leased=1, waiting=0)


def test_snapshots(state):
    queue = subscribe(state)
    publish(state, b"1", b"2", b"3")
    queue.acknowledge(ids(take(queue, 1)))
    state.create_snapshot("projects/sky/snapshots/now", SUBSCRIPTION)
    publish(state, b"4")
    queue.acknowledge(ids(take(queue)))
    assert take(queue) == []
    state.seek_to_snapshot(SUBSCRIPTION, "projects/sky/snapshots/now")
    assert data(take(queue)) == b"234"
    with pytest.raises(AlreadyExistsError):
        state.create_snapshot("projects/sky/snapshots/now", SUBSCRIPTION)
    state.delete_snapshot("projects/sky/snapshots/now")
    with pytest.raises(NotFoundError, match="no snapshot"):
        state.seek_to_snapshot(SUBSCRIPTION, "projects/sky/snapshots/now")


def test_a_snapshot_of_another_topic(state):
    subscribe(state)
    state.create_topic("projects/sky/topics/other")
    state.create_subscription(
        SubscriptionConfig("projects/sky/subscriptions/other", "projects/sky/topics/other")
    )
    state.create_snapshot("projects/sky/snapshots/now", SUBSCRIPTION)
    with pytest.raises(ConfigurationError, match="is of the topic"):
        state.seek_to_snapshot("projects/sky/subscriptions/other", "projects/sky/snapshots/now")


# What is refused --------------------------------------------------------------------------------------------------------


def test_names(state):
    subscribe(state)
    with pytest.raises(AlreadyExistsError, match="topic projects/sky/topics/alerts exists"):
        state.create_topic(TOPIC)
    with pytest.raises(AlreadyExistsError):
        subscribe(state)
    with pytest.raises(NotFoundError, match="no topic"):
        state.create_subscription(
            SubscriptionConfig("projects/sky/subscriptions/x-y", "projects/sky/topics/none")
        )
    for path in ("alerts", "projects/sky/topics", "projects//topics/x", "projects/sky/topics/x", "projects/sky/topics/1ab",
                 "projects/sky/topics/goog-x", "projects/sky/subscriptions/abc", "projects/sky/topics/" + "x" * 256):  # fmt: skip
        with pytest.raises(ConfigurationError):
            check_path(path, "topics")
    assert check_path("projects/example.org:sky/topics/ztf-loop", "topics")


def test_a_filter_that_is_none(state):
    with pytest.raises(FilterError):
        subscribe(state, filter="candidate.drb > 0.9")
    with pytest.raises(NotFoundError):
        state.subscription(SUBSCRIPTION)


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        ((b"", {}, ""), "needs data or at least one attribute"),
        ((b"x" * 10_000_001, {}, ""), "at most 10000000 bytes"),
        ((b"", {f"k{n}": "" for n in range(101)}, ""), "at most 100 attributes"),
        ((b"", {"k" * 257: ""}, ""), "no name of an attribute"),
        ((b"", {"goog-x": ""}, ""), "no name of an attribute"),
        ((b"", {"k": "é" * 513}, ""), "more than 1024 bytes"),
        ((b"a", {}, "k" * 1025), "ordering key"),
    ],
)
def test_messages_out_of_bounds(state, draft, why):
    queue = subscribe(state)
    with pytest.raises(ConfigurationError, match=why):
        state.publish(TOPIC, [(b"fine", {}, ""), draft])
    assert take(queue) == []  # all or nothing


def test_a_deleted_topic(state):
    queue = subscribe(state)
    publish(state, b"a")
    state.delete_topic(TOPIC)
    assert queue.config.topic == "_deleted-topic_"
    assert data(take(queue)) == b"a"
    with pytest.raises(NotFoundError):
        publish(state, b"b")
    state.delete_subscription(SUBSCRIPTION)


# Faults and bytes -------------------------------------------------------------------------------------------------------


def test_faults_happen_as_often_as_asked():
    faults = PubSubFaults()
    faults.add(PubSubFault("Publish", "UNAVAILABLE", "", times=2))
    faults.add(PubSubFault("Publish", "ABORTED", "", times=None))
    faults.add(PubSubFault("Pull", "INTERNAL", ""))
    codes = [
        getattr(faults.next(rpc), "code", None) for rpc in ("Publish", "Pull", "Publish", "Pull", "Publish")
    ]
    assert codes == ["UNAVAILABLE", "INTERNAL", "UNAVAILABLE", None, "ABORTED"]
    faults.clear()
    assert faults.next("Publish") is None
    with pytest.raises(ConfigurationError, match="UNAVAILABLE"):
        faults.add(PubSubFault("Publish", "BROKEN", ""))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 5_300_000])
def test_answers_are_what_protobuf_reads(state, size):
    types = pytest.importorskip("google.pubsub_v1.types", reason="needs google-cloud-pubsub")
    from nuncius.sandbox.pubsub.wire import received_messages

    queue = subscribe(state)
    publish(state, b"x" * size, b"second", survey="ztf", note="é" * 100)
    leases = take(queue)
    for counting in (False, True):
        read = types.PullResponse.deserialize(received_messages(leases, count_attempts=counting))
        assert [message.ack_id for message in read.received_messages] == ids(leases)
        assert [message.delivery_attempt for message in read.received_messages] == [int(counting)] * 2
        first, second = (message.message for message in read.received_messages)
        assert (first.data == b"x" * size, second.data) == (True, b"second")
        assert dict(first.attributes) == {"survey": "ztf", "note": "é" * 100}
        assert (first.message_id, first.publish_time.timestamp()) == ("1", 1_790_000_000.0)


def test_the_clock_goes_on_and_forward():
    clock = Clock()
    before = clock()
    clock.advance(100)
    assert clock() - before >= 100


def test_attributes_for_each_packet():
    from nuncius.sandbox.pubsub import _with_attributes

    packets = [b"a", b"b"]
    assert [*_with_attributes(packets, None)] == [(b"a", {}), (b"b", {})]
    assert [*_with_attributes(packets, {"k": "v"})] == [(b"a", {"k": "v"}), (b"b", {"k": "v"})]
    assert [*_with_attributes(packets, iter([{"k": "1"}, {"k": "2"}]))] == [
        (b"a", {"k": "1"}),
        (b"b", {"k": "2"}),
    ]
    for wrong, why in (([{}], "fewer"), ([{}] * 3, "more")):
        with pytest.raises(ConfigurationError, match=why):
            list(_with_attributes(packets, wrong))


def test_without_grpc(monkeypatch):
    """The message names the extra."""
    import nuncius.sandbox.pubsub.server as module
    from nuncius.errors import MissingExtraError

    def missing(name, *, extra):
        raise MissingExtraError(f"{name} is not installed: nuncius[{extra}]")

    monkeypatch.setattr(module, "require", missing)
    with pytest.raises(MissingExtraError, match=r"nuncius\[sandbox\]"):
        module.PubSubServer()


def test_deadlines_sent_together():
    from nuncius.sandbox.pubsub.server import _by_deadline

    sent = SimpleNamespace(modify_deadline_ack_ids=["a", "b", "c"], modify_deadline_seconds=[0, 10, 0])
    assert _by_deadline(sent) == {0: ["a", "c"], 10: ["b"]}
    with pytest.raises(ConfigurationError, match="2 ids"):
        _by_deadline(SimpleNamespace(modify_deadline_ack_ids=["a", "b"], modify_deadline_seconds=[0]))
