"""The sandbox's Pub/Sub server, driven by Google's own clients."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("google.cloud.pubsub_v1", reason="needs google-cloud-pubsub")

import grpc
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.pubsub_v1 import types

from nuncius.errors import ConfigurationError, NotFoundError, UnreachableError
from nuncius.sandbox.pubsub import SandboxPubSub

pytestmark = pytest.mark.xdist_group("sandbox-pubsub")

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def server():
    with SandboxPubSub() as running:
        yield running


@pytest.fixture
def box(server, monkeypatch):
    server.reset()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.reset()


@pytest.fixture
def subscriber(box):
    with pubsub_v1.SubscriberClient() as client:
        yield client


@pytest.fixture
def publisher(box):
    client = pubsub_v1.PublisherClient()
    yield client
    client.transport.close()


def wait_for(condition, what="what was waited for"):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def pull(subscriber, path, most=1000, **options):
    answer = subscriber.pull(subscription=path, max_messages=most, **options)
    return list(answer.received_messages)


def data(received):
    return [each.message.data for each in received]


def ids(received):
    return [each.ack_id for each in received]


@contextlib.contextmanager
def subscribed(subscriber, path, callback, **options):
    future = subscriber.subscribe(path, callback, **options)
    try:
        yield future
    finally:
        future.cancel()
        with contextlib.suppress(Exception):
            future.result(10)


def ask(*requests, then=None):
    """Yield the requests of a stream, and keep it open until told otherwise."""
    yield from requests
    yield from iter((then or queue.Queue()).get, None)


def opening(path, **options):
    return types.StreamingPullRequest(subscription=path, stream_ack_deadline_seconds=10, **options)


# What is there ------------------------------------------------------------------------------------------------------------


def test_where_it_is(box):
    assert box.url == f"pubsub://{box.endpoint}/nuncius-sandbox/ztf-loop"
    assert box.pittgoogle_url == f"pittgoogle://127.0.0.1:{box.port}"
    assert box.topic_path == "projects/ardent-cycling-243415/topics/ztf-loop"
    assert (box.ca_file, box.tokens) == (None, None)
    assert repr(box) == f"<SandboxPubSub {box.endpoint}>"


def test_topics(box, publisher):
    path = publisher.topic_path(box.project, "my-topic")
    made = publisher.create_topic(request={"name": path, "message_retention_duration": timedelta(hours=1)})
    assert publisher.get_topic(topic=path) == made
    with pytest.raises(exceptions.AlreadyExists):
        publisher.create_topic(name=path)
    publisher.update_topic(topic={"name": path, "labels": {"a": "b"}}, update_mask={"paths": ["labels"]})
    assert publisher.get_topic(topic=path).labels == {"a": "b"}
    with pytest.raises(exceptions.InvalidArgument, match="kms_key_name can't be changed"):
        publisher.update_topic(topic={"name": path}, update_mask={"paths": ["kms_key_name"]})
    names = [topic.name for topic in publisher.list_topics(project="projects/ardent-cycling-243415")]
    assert [name.rpartition("/")[2] for name in names] == ["lvk-alerts", "ztf-alerts", "ztf-lite", "ztf-loop"]
    publisher.delete_topic(topic=path)
    for call in (publisher.get_topic, publisher.delete_topic):
        with pytest.raises(exceptions.NotFound, match="no topic projects/nuncius-sandbox/topics/my-topic"):
            call(topic=path)
    with pytest.raises(exceptions.InvalidArgument):
        publisher.create_topic(name="projects/x/topics/1")


def test_lists_come_in_pages(box, publisher):
    for number in range(7):
        box.create_topic(f"topic-{number}")
    pages = publisher.list_topics(request={"project": f"projects/{box.project}", "page_size": 3}).pages
    assert [len(page.topics) for page in pages] == [3, 3, 1]
    assert [*publisher.list_topic_subscriptions(topic=box.topic_path)] == [box.subscription_path]


def test_subscriptions(box, subscriber):
    path = subscriber.subscription_path(box.project, "mine")
    wanted = {
        "name": path,
        "topic": box.topic_path,
        "filter": 'attributes.pg_variable = "likely"',
        "ack_deadline_seconds": 20,
        "retain_acked_messages": True,
        "enable_message_ordering": True,
        "labels": {"a": "b"},
        "dead_letter_policy": {"dead_letter_topic": box.create_topic("dead"), "max_delivery_attempts": 7},
        "retry_policy": {"minimum_backoff": timedelta(seconds=5), "maximum_backoff": timedelta(seconds=50)},
    }
    made = subscriber.create_subscription(request=wanted)
    assert subscriber.get_subscription(subscription=path) == made
    for name, value in wanted.items():
        assert getattr(made, name) == types.Subscription(**{name: value}).__getattr__(name), name
    with pytest.raises(exceptions.AlreadyExists):
        subscriber.create_subscription(request=wanted)
    assert [each.name for each in subscriber.list_subscriptions(project=f"projects/{box.project}")] == [
        path,
        box.subscription_path,
    ]
    changed = {"name": path, "ack_deadline_seconds": 30}
    subscriber.update_subscription(subscription=changed, update_mask={"paths": ["ack_deadline_seconds"]})
    now = subscriber.get_subscription(subscription=path)
    assert (now.ack_deadline_seconds, now.filter) == (30, wanted["filter"])
    with pytest.raises(exceptions.InvalidArgument, match="filter can't be changed"):
        subscriber.update_subscription(subscription=changed, update_mask={"paths": ["filter"]})
    subscriber.delete_subscription(subscription=path)
    with pytest.raises(exceptions.NotFound):
        subscriber.get_subscription(subscription=path)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"filter": "attributes.x > 3"}, "attributes are texts"),
        ({"filter": "x" * 257}, "256 bytes"),
        ({"ack_deadline_seconds": 5}, "10 to 600"),
        ({"message_retention_duration": timedelta(seconds=5)}, "600 to"),
        ({"push_config": {"push_endpoint": "https://example.org"}}, "pushes nothing"),
        ({"bigquery_config": {"table": "a.b.c"}}, "bigquery_config"),
        ({"dead_letter_policy": {"dead_letter_topic": "projects/x/topics/y", "max_delivery_attempts": 3}}, "5 to 100"),
    ],
)  # fmt: skip
def test_subscriptions_that_are_refused(box, subscriber, wrong, why):
    path = subscriber.subscription_path(box.project, "mine")
    with pytest.raises(exceptions.InvalidArgument) as caught:
        subscriber.create_subscription(request={"name": path, "topic": box.topic_path, **wrong})
    assert why in caught.value.message


def test_a_topic_that_is_missing(box, subscriber):
    path = subscriber.subscription_path(box.project, "mine")
    with pytest.raises(exceptions.NotFound, match="no topic"):
        subscriber.create_subscription(name=path, topic="projects/ardent-cycling-243415/topics/nothing")


# Pull ---------------------------------------------------------------------------------------------------------------------


def test_publish_and_pull(box, publisher, subscriber):
    before = datetime.now(UTC)
    published = [
        publisher.publish(box.topic_path, b"packet %d" % n, survey="ztf", candid=str(n)).result(PATIENCE_S)
        for n in range(3)
    ]
    received = pull(subscriber, box.subscription_path)
    assert data(received) == [b"packet 0", b"packet 1", b"packet 2"]
    assert [each.message.message_id for each in received] == published
    assert dict(received[2].message.attributes) == {"survey": "ztf", "candid": "2"}
    assert abs(received[0].message.publish_time - before) < timedelta(seconds=PATIENCE_S)
    assert received[0].delivery_attempt == 0  # there is no dead-letter policy
    subscriber.acknowledge(subscription=box.subscription_path, ack_ids=ids(received[:2]))
    subscriber.modify_ack_deadline(
        subscription=box.subscription_path, ack_ids=ids(received[2:]), ack_deadline_seconds=0
    )
    assert box.counts() == (1, 0, 3, 2, 1, 0, 0, 0, 0)
    assert data(pull(subscriber, box.subscription_path)) == [b"packet 2"]
    noted = [request for request in box.requests if request.rpc in {"Acknowledge", "ModifyAckDeadline"}]
    assert [(request.rpc, request.ids, request.deadline_s) for request in noted] == [
        ("Acknowledge", 2, -1),
        ("ModifyAckDeadline", 1, 0),
    ]


def test_pull_waits_for_messages(box, subscriber):
    threading.Timer(0.2, box.publish, ("ztf-loop", [b"late"])).start()
    assert data(pull(subscriber, box.subscription_path)) == [b"late"]
    assert pull(subscriber, box.subscription_path, timeout=0.5) == []


def test_a_lease_that_ends(box, subscriber):
    path = box.create_subscription("short", "ztf-loop", ack_deadline_s=0.3)
    box.publish("ztf-loop", [b"a"])
    (first,) = pull(subscriber, path)
    (again,) = pull(subscriber, path)  # waits for it
    assert again.ack_id != first.ack_id
    subscriber.acknowledge(subscription=path, ack_ids=[first.ack_id])
    assert (box.counts("short").late, box.counts("short").acknowledged) == (1, 0)


def test_time_can_be_put_forward(box, subscriber):
    box.publish("ztf-loop", [b"a"])
    pull(subscriber, box.subscription_path)
    assert box.counts().leased == 1
    box.advance(11)
    assert (box.counts().leased, box.counts().waiting, box.counts().expired) == (0, 1, 1)


def test_requests_that_are_too_large(box, subscriber):
    """Google's service takes 512 KiB of acknowledgement ids, which are long there, and here as well."""
    box.publish("ztf-loop", [b"x"] * 4000)
    received = []
    while len(received) < 4000:
        received += ids(pull(subscriber, box.subscription_path))
    with pytest.raises(exceptions.InvalidArgument, match="524288 bytes"):
        subscriber.acknowledge(subscription=box.subscription_path, ack_ids=received)
    for begin in range(0, 4000, 2000):
        subscriber.acknowledge(subscription=box.subscription_path, ack_ids=received[begin : begin + 2000])
    assert box.counts().acknowledged == 4000
    with pytest.raises(exceptions.InvalidArgument, match="at least 1"):
        pull(subscriber, box.subscription_path, 0)
    with pytest.raises(exceptions.InvalidArgument, match="0 to 600"):
        subscriber.modify_ack_deadline(
            subscription=box.subscription_path, ack_ids=received[:1], ack_deadline_seconds=601
        )


def test_messages_that_are_refused(box):
    from google.pubsub_v1.services.publisher import PublisherClient  # without the batches

    with grpc.insecure_channel(box.endpoint) as channel:
        client = PublisherClient(transport=PublisherClient.get_transport_class("grpc")(channel=channel))
        for messages, why in (
            ([{"data": b""}], "at least one attribute"),
            ([], "1 to 1000 messages"),
            ([{"data": b"x"}] * 1001, "1 to 1000 messages"),
            ([{"data": b"x" * 1_000_000}] * 11, "at most 10000000 bytes"),
        ):
            with pytest.raises(exceptions.InvalidArgument, match=why):
                client.publish(topic=box.topic_path, messages=messages)
    assert box.counts().waiting == 0


# subscribe() --------------------------------------------------------------------------------------------------------------


def test_subscribe(box, subscriber):
    box.publish("ztf-loop", [b"%d" % n for n in range(500)], attributes={"survey": "ztf"})
    got = []

    def keep(message):
        got.append((int(message.data), message.attributes["survey"]))
        message.ack()

    with subscribed(subscriber, box.subscription_path, keep):
        wait_for(lambda: box.counts().acknowledged == 500, "500 acknowledgements")
        box.publish("ztf-loop", [b"500"], attributes={"survey": "lsst"})
        wait_for(lambda: box.counts().acknowledged == 501)
        assert box.open_streams == 1
    assert sorted(got) == [*((n, "ztf") for n in range(500)), (500, "lsst")]
    assert box.counts() == (0, 0, 501, 501, 0, 0, 0, 0, 0)
    wait_for(lambda: box.open_streams == 0, "the end of the stream")


def test_what_is_released_comes_again(box, subscriber):
    box.publish("ztf-loop", [b"%d" % n for n in range(16)])
    seen = []

    def first_no_then_yes(message):
        again = message.data in seen
        seen.append(message.data)
        (message.ack if again else message.nack)()

    with subscribed(subscriber, box.subscription_path, first_no_then_yes):
        wait_for(lambda: box.counts().acknowledged == 16)
    assert sorted(seen) == sorted([b"%d" % n for n in range(16)] * 2)
    assert box.counts().released == 16


def test_leases_are_extended_while_a_callback_works(box, subscriber):
    box.publish("ztf-loop", [b"slow"])
    began, go_on = threading.Event(), threading.Event()

    def slow(message):
        began.set()
        assert go_on.wait(PATIENCE_S)
        message.ack()

    with subscribed(subscriber, box.subscription_path, slow):
        assert began.wait(PATIENCE_S)
        wait_for(lambda: any(request.deadline_s == 10 for request in box.requests), "a receipt")
        box.advance(5)
        go_on.set()
        wait_for(lambda: box.counts().acknowledged == 1)
    assert box.counts().expired == 0


def test_flow_control(box, subscriber):
    box.publish("ztf-loop", [b"%d" % n for n in range(30)])
    go_on = threading.Semaphore(0)

    def wait_and_ack(message):
        go_on.acquire(timeout=PATIENCE_S)
        message.ack()

    flow = pubsub_v1.types.FlowControl(max_messages=4)
    with subscribed(subscriber, box.subscription_path, wait_and_ack, flow_control=flow):
        wait_for(lambda: box.counts().leased == 4)
        time.sleep(0.1)
        assert box.counts().leased == 4
        go_on.release(30)
        wait_for(lambda: box.counts().acknowledged == 30)
    assert box.counts().expired == 0


@pytest.mark.parametrize("size", [53_000, 5_300_000])
def test_answers_stay_below_what_clients_take(box, subscriber, size):
    """A client that takes its limits from gRPC refuses more than 4 MiB, and retries for ever."""
    many = 200 if size < 4_000_000 else 3
    if size < 4_000_000:
        box.publish("ztf-loop", [b"x" * size] * many)
        with subscribed(subscriber, box.subscription_path, lambda message: message.ack()):
            wait_for(lambda: box.counts().acknowledged == many)
        assert box.counts().delivered == many
        return
    box.publish("ztf-loop", [b"x" * size] * many)
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(box.endpoint, options=options) as channel:
        api = pubsub_v1.SubscriberClient(transport=transport(channel))
        received = pull(api, box.subscription_path)
        assert len(received) == 1  # a large one travels alone
        box.max_response_bytes = 100_000_000
        received += pull(api, box.subscription_path)
    assert [len(each) for each in data(received)] == [size] * many


def transport(channel):
    return pubsub_v1.SubscriberClient.get_transport_class("grpc")(channel=channel)


def test_a_larger_answer_is_refused_by_such_a_client(box, subscriber):
    box.publish("ztf-loop", [b"x" * 53_000] * 100)
    box.max_response_bytes = 100_000_000
    with pytest.raises(exceptions.ResourceExhausted, match="larger than max"):
        pull(subscriber, box.subscription_path, retry=None)


# Streams, one by one ------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(box):
    """Return Google's generated client, which has the bare calls."""
    from google.pubsub_v1.services.subscriber import SubscriberClient

    with grpc.insecure_channel(box.endpoint) as channel:
        yield SubscriberClient(transport=SubscriberClient.get_transport_class("grpc")(channel=channel))


def test_a_stream_that_ends_well(box, api):
    """Who has said his last word still gets what is on its way, and an end without an error."""
    box.publish("ztf-loop", [b"a", b"b"])
    words = queue.Queue()
    stream = api.streaming_pull(requests=ask(opening(box.subscription_path), then=words))
    first, second = next(stream), next(stream)
    assert not first.received_messages
    assert first.subscription_properties is not None
    received = list(second.received_messages)
    words.put(
        types.StreamingPullRequest(
            ack_ids=ids(received[:1]),
            modify_deadline_ack_ids=ids(received[1:]),
            modify_deadline_seconds=[60],
        )
    )
    words.put(None)
    assert list(stream) == []
    assert box.counts() == (0, 1, 2, 1, 0, 0, 0, 0, 0)
    box.advance(50)
    assert box.counts().expired == 0
    assert [(each.rpc, each.ids, each.deadline_s) for each in box.requests] == [
        ("StreamingPull", 0, -1),
        ("StreamingPull/Acknowledge", 1, -1),
        ("StreamingPull/ModifyAckDeadline", 1, 60),
    ]


@pytest.mark.parametrize(
    ("first", "later", "why"),
    [
        ({"stream_ack_deadline_seconds": 0}, None, "10 to 600"),
        ({"stream_ack_deadline_seconds": 601}, None, "10 to 600"),
        ({}, {"subscription": "projects/x/subscriptions/y"}, "first request only"),
        ({}, {"modify_deadline_ack_ids": ["a"]}, "1 ids to modify, and 0 deadlines"),
        ({}, {"modify_deadline_ack_ids": ["a"], "modify_deadline_seconds": [700]}, "0 to 600"),
        ({}, {"ack_ids": ["x" * 1000] * 600}, "524288 bytes"),
    ],
)
def test_streams_that_are_refused(box, api, first, later, why):
    asked = {"subscription": box.subscription_path, "stream_ack_deadline_seconds": 10} | first
    requests = [types.StreamingPullRequest(**asked)]
    if later is not None:
        requests.append(types.StreamingPullRequest(**later))
    with pytest.raises(exceptions.InvalidArgument) as caught:
        list(api.streaming_pull(requests=ask(*requests)))
    assert why in caught.value.message


def test_a_dead_stream_takes_nothing(box, api, subscriber):
    streams = [api.streaming_pull(requests=ask(opening(box.subscription_path))) for _ in range(10)]
    for stream in streams:
        next(stream)
    wait_for(lambda: box.open_streams == 10)
    for stream in streams:
        stream.cancel()
    wait_for(lambda: box.open_streams == 0, "the end of the streams")
    box.publish("ztf-loop", [b"%d" % n for n in range(100)])
    assert len(pull(subscriber, box.subscription_path)) == 100
    assert box.counts().delivered == 100


def test_killed_with_messages_in_flight(box, tmp_path, subscriber):
    """They are free again when their leases end."""
    box.publish("ztf-loop", [b"%d" % n for n in range(15)])
    program = (
        "import sys, time\n"
        "from google.cloud import pubsub_v1\n"
        "pubsub_v1.SubscriberClient().subscribe(sys.argv[1], lambda message: None)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, box.subscription_path], env=os.environ)
    try:
        wait_for(
            lambda: any(request.deadline_s == 10 and request.ids for request in box.requests), "a receipt"
        )
        wait_for(lambda: box.counts().leased == 15)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    wait_for(lambda: box.open_streams == 0)
    box.advance(61)
    assert sorted(data(pull(subscriber, box.subscription_path))) == sorted(b"%d" % n for n in range(15))
    assert box.counts().expired == 15


# Filters, order, dead letters, going back -----------------------------------------------------------------------------------


def test_filters(box, publisher, subscriber):
    path = subscriber.subscription_path(box.project, "likely")
    written = 'attributes:diaObject_diaObjectId AND attributes.pg_variable = "likely"'
    subscriber.create_subscription(request={"name": path, "topic": box.topic_path, "filter": written})
    attributes = [
        {"diaObject_diaObjectId": "1", "pg_variable": "likely"},
        {"diaObject_diaObjectId": "2", "pg_variable": "unlikely"},
        {"ssObject_ssObjectId": "3", "pg_variable": "likely"},
    ]
    box.publish("ztf-loop", [b"1", b"2", b"3"], attributes=attributes)
    assert data(pull(subscriber, path)) == [b"1"]
    assert box.counts("likely").filtered == 2


def test_ordering_keys(box, subscriber):
    path = box.create_subscription("in-order", "nights", ordering=True)
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher = pubsub_v1.PublisherClient(publisher_options=options)
    topic = publisher.topic_path(box.project, "nights")
    for n in range(40):
        publisher.publish(topic, b"%d" % n, ordering_key=f"field {n % 4}").result(PATIENCE_S)
    seen = {}
    failed = set()

    def note(message):
        if message.data == b"20" and message.data not in failed:
            failed.add(message.data)
            message.nack()
            return
        seen.setdefault(message.ordering_key, []).append(int(message.data))
        message.ack()

    with subscribed(subscriber, path, note):
        wait_for(lambda: box.counts("in-order").acknowledged == 40)
    publisher.transport.close()
    assert seen == {f"field {k}": list(range(k, 40, 4)) for k in range(4)}


def test_dead_letters(box, subscriber):
    path = box.create_subscription("watched", "ztf-loop", dead_letter_topic="dead", max_delivery_attempts=5)
    dead = box.create_subscription("dead-ones", "dead")
    box.publish("ztf-loop", [b"poison", b"good"])
    attempts = []

    def refuse(message):
        if message.data == b"good":
            message.ack()
            return
        attempts.append(message.delivery_attempt)
        message.nack()

    with subscribed(subscriber, path, refuse):
        wait_for(lambda: box.counts("watched").dead_lettered == 1)
    assert attempts == [1, 2, 3, 4, 5]
    (letter,) = pull(subscriber, dead)
    assert letter.message.data == b"poison"
    assert letter.message.attributes["CloudPubSubDeadLetterSourceSubscription"] == "watched"


def test_backoff(box, subscriber):
    path = subscriber.subscription_path(box.project, "patient")
    subscriber.create_subscription(
        request={
            "name": path,
            "topic": box.topic_path,
            "retry_policy": {
                "minimum_backoff": timedelta(seconds=20),
                "maximum_backoff": timedelta(seconds=60),
            },
        }
    )
    box.publish("ztf-loop", [b"a"])
    (first,) = pull(subscriber, path)
    subscriber.modify_ack_deadline(subscription=path, ack_ids=[first.ack_id], ack_deadline_seconds=0)
    assert pull(subscriber, path, timeout=0.5) == []
    box.advance(20)
    assert data(pull(subscriber, path)) == [b"a"]


def test_seek_to_a_time(box, subscriber):
    path = box.create_subscription("kept", "ztf-loop", retain_acked=True)
    nights = [datetime(2026, 9, night, tzinfo=UTC) for night in (1, 2, 3)]
    for night in nights:
        box.publish("ztf-loop", [b"%d" % night.day], publish_time=night)
    received = pull(subscriber, path)
    assert [each.message.publish_time for each in received] == nights
    subscriber.acknowledge(subscription=path, ack_ids=ids(received))
    subscriber.seek(request={"subscription": path, "time": nights[1]})
    assert data(pull(subscriber, path)) == [b"2", b"3"]
    subscriber.seek(request={"subscription": path, "time": datetime.now(UTC) + timedelta(hours=1)})
    assert box.counts("kept").waiting == box.counts("kept").leased == 0
    with pytest.raises(exceptions.InvalidArgument, match="a time or a snapshot"):
        subscriber.seek(request={"subscription": path})


def test_snapshots(box, subscriber):
    box.publish("ztf-loop", [b"a", b"b"])
    name = subscriber.snapshot_path(box.project, "before")
    made = subscriber.create_snapshot(name=name, subscription=box.subscription_path)
    assert (made.name, made.topic) == (name, box.topic_path)
    subscriber.acknowledge(
        subscription=box.subscription_path, ack_ids=ids(pull(subscriber, box.subscription_path))
    )
    box.publish("ztf-loop", [b"c"])
    subscriber.seek(request={"subscription": box.subscription_path, "snapshot": name})
    assert data(pull(subscriber, box.subscription_path)) == [b"a", b"b", b"c"]
    assert [each.name for each in subscriber.list_snapshots(project=f"projects/{box.project}")] == [name]
    subscriber.delete_snapshot(snapshot=name)
    with pytest.raises(exceptions.NotFound):
        subscriber.seek(request={"subscription": box.subscription_path, "snapshot": name})


# Faults -------------------------------------------------------------------------------------------------------------------


def test_a_client_comes_back_after_unavailable(box, subscriber):
    box.fail("StreamingPull", "UNAVAILABLE", times=3)
    box.publish("ztf-loop", [b"%d" % n for n in range(10)])
    with subscribed(subscriber, box.subscription_path, lambda message: message.ack()):
        wait_for(lambda: box.counts().acknowledged == 10)
    assert [request.rpc for request in box.requests].count("StreamingPull") >= 4


def test_a_client_ends_with_permission_denied(box, subscriber):
    box.fail("StreamingPull", "PERMISSION_DENIED", text="no subscriber")
    future = subscriber.subscribe(box.subscription_path, lambda message: message.ack())
    with pytest.raises(exceptions.PermissionDenied, match="no subscriber"):
        future.result(PATIENCE_S)


def test_a_stream_that_breaks_after_some_messages(box, api):
    box.publish("ztf-loop", [b"%d" % n for n in range(10)])
    box.fail("StreamingPull", "INTERNAL", after=4, text="half of them")
    received = []
    answers = api.streaming_pull(requests=ask(opening(box.subscription_path)))
    with pytest.raises(exceptions.InternalServerError, match="half of them"):
        received.extend(part for answer in answers for part in data(answer.received_messages))
    assert received == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("done", [False, True])
def test_an_answer_that_is_lost(box, api, done):
    box.publish("ztf-loop", [b"a"])
    received = pull(api, box.subscription_path)
    box.fail("Acknowledge", "UNAVAILABLE", done=done)
    with pytest.raises(exceptions.ServiceUnavailable):
        api.acknowledge(subscription=box.subscription_path, ack_ids=ids(received), retry=None)
    assert box.counts().acknowledged == int(done)


def test_faults_that_do_not_exist(box):
    with pytest.raises(ConfigurationError, match="StreamingPull"):
        box.fail("Pul", "UNAVAILABLE")
    with pytest.raises(ConfigurationError, match="PERMISSION_DENIED"):
        box.fail("Pull", "403")
    with pytest.raises(NotFoundError):
        box.counts("nobody")


def test_streams_that_are_dropped(box, subscriber):
    with subscribed(subscriber, box.subscription_path, lambda message: message.ack()):
        wait_for(lambda: box.open_streams == 1)
        box.drop_streams()
        box.publish("ztf-loop", [b"a"])
        wait_for(lambda: box.counts().acknowledged == 1, "a new stream")
    assert [request.rpc for request in box.requests].count("StreamingPull") == 2


def test_a_server_that_was_away(box, api):
    """Connections break; messages and leases stay."""
    box.publish("ztf-loop", [b"a", b"b"])
    port = box.port
    (first,) = pull(api, box.subscription_path, 1)
    stream = api.streaming_pull(requests=ask(opening(box.subscription_path)))
    next(stream)
    assert data(next(stream).received_messages) == [b"b"]
    threading.Thread(target=box.restart, kwargs={"down_s": 0.2}).start()
    with pytest.raises(exceptions.ServiceUnavailable):
        list(stream)
    wait_for(lambda: not box.open_streams)
    time.sleep(0.3)
    assert box.port == port
    api.acknowledge(subscription=box.subscription_path, ack_ids=[first.ack_id], timeout=PATIENCE_S)
    assert box.counts()[:4] == (0, 1, 2, 1)


def test_a_server_that_sends_nothing(box, subscriber):
    box.stall()
    box.publish("ztf-loop", [b"a"])
    with subscribed(subscriber, box.subscription_path, lambda message: message.ack()):
        wait_for(lambda: box.open_streams == 1)
        time.sleep(0.2)
        assert box.counts().delivered == 0
        box.resume()
        wait_for(lambda: box.counts().acknowledged == 1)


def test_messages_that_come_twice(box, subscriber):
    box.publish("ztf-loop", [b"a", b"b"])
    box.repeat(1)
    received = pull(subscriber, box.subscription_path)
    assert data(received) == [b"a", b"a", b"b"]
    assert len({each.message.message_id for each in received}) == 2
    subscriber.acknowledge(subscription=box.subscription_path, ack_ids=ids(received))
    assert box.counts() == (0, 0, 3, 2, 0, 0, 0, 0, 0)


def test_a_subscription_that_is_deleted_while_it_is_read(box, subscriber):
    future = subscriber.subscribe(box.subscription_path, lambda message: message.ack())
    wait_for(lambda: box.open_streams == 1)
    subscriber.delete_subscription(subscription=box.subscription_path)
    with pytest.raises(exceptions.NotFound, match="was deleted"):
        future.result(PATIENCE_S)


def test_a_port_that_is_taken(box):
    with pytest.raises(UnreachableError, match="is the port taken"):
        SandboxPubSub(port=box.port)


def test_it_does_not_keep_a_program_from_ending(box):
    program = (
        "import os\n"
        "from nuncius.sandbox.pubsub import SandboxPubSub\n"
        "server = SandboxPubSub()\n"
        "os.environ.update(server.environment)\n"
        "from google.cloud import pubsub_v1\n"
        "client = pubsub_v1.SubscriberClient()\n"
        "future = client.subscribe(server.subscription_path, lambda message: message.ack())\n"
        "while not server.open_streams: pass\n"
        "future.cancel()\n"
        "future.result()\n"
        "print('the end')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr


# TLS and tokens -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure():
    pytest.importorskip("trustme", reason="needs trustme")
    with SandboxPubSub(tls=True, tokens=["good"]) as running:
        yield running


def secure_client(box, token, authority=None):
    roots = (authority or box.ca_file).read_bytes()
    calls = grpc.access_token_call_credentials(token)
    credentials = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(roots), calls)
    return grpc.secure_channel(box.endpoint, credentials)


def test_tls_and_a_token(secure):
    secure.publish("ztf-loop", [b"a"])
    with secure_client(secure, "good") as channel:
        client = pubsub_v1.SubscriberClient(transport=transport(channel))
        assert data(pull(client, secure.subscription_path)) == [b"a"]
        secure.tokens.discard("good")  # it expires
        with pytest.raises(exceptions.Unauthenticated, match="access token"):
            pull(client, secure.subscription_path, retry=None)
        with pytest.raises(exceptions.Unauthenticated):
            list(super(type(client), client).streaming_pull(requests=ask(opening(secure.subscription_path))))
        secure.tokens.add("good")
        assert client.get_subscription(subscription=secure.subscription_path).topic == secure.topic_path


def test_no_token_and_no_tls(secure):
    roots = grpc.ssl_channel_credentials(secure.ca_file.read_bytes())
    with grpc.secure_channel(secure.endpoint, roots) as channel:
        client = pubsub_v1.SubscriberClient(transport=transport(channel))
        with pytest.raises(exceptions.Unauthenticated):
            client.get_subscription(subscription=secure.subscription_path, retry=None, timeout=5)
    with grpc.insecure_channel(secure.endpoint) as channel:
        client = pubsub_v1.SubscriberClient(transport=transport(channel))
        with pytest.raises(exceptions.ServiceUnavailable):
            client.get_subscription(subscription=secure.subscription_path, retry=None, timeout=5)


def test_the_authority_is_removed_at_the_end():
    with SandboxPubSub(tls=True) as running:
        authority = running.ca_file
        assert authority.is_file()
        assert len(running.tokens) == 1
    assert not authority.exists()


# Google's login -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def login(secure):
    """Return a server that asks for tokens, and where they come from."""
    secure.login.refuses = ""
    secure.login.grants.clear()
    return secure.login


def asks_as(box, credentials):
    from google.auth.transport.grpc import AuthMetadataPlugin
    from google.auth.transport.requests import Request

    plugin = grpc.metadata_call_credentials(AuthMetadataPlugin(credentials, Request()))
    ssl = grpc.ssl_channel_credentials(box.ca_file.read_bytes())
    with grpc.secure_channel(box.endpoint, grpc.composite_channel_credentials(ssl, plugin)) as channel:
        client = pubsub_v1.SubscriberClient(transport=transport(channel))
        return client.get_subscription(
            subscription=box.subscription_path, retry=None, timeout=PATIENCE_S
        ).name


def test_a_key_file(secure, login, tmp_path):
    from google.oauth2.service_account import Credentials

    path = login.write_key_file(tmp_path / "key.json")
    assert path.stat().st_mode & 0o777 == 0o600
    credentials = Credentials.from_service_account_file(path, scopes=["pubsub"])
    assert credentials.project_id == secure.project
    assert asks_as(secure, credentials) == secure.subscription_path
    assert login.grants == ["jwt-bearer"]
    signs_itself = credentials.with_always_use_jwt_access(True)
    signs_itself._create_self_signed_jwt(None)
    assert asks_as(secure, signs_itself) == secure.subscription_path
    assert login.grants == ["jwt-bearer"]  # nothing more was asked


def test_a_key_file_of_another(secure, login, tmp_path):
    from google.auth.exceptions import RefreshError
    from google.auth.transport.requests import Request
    from google.oauth2.service_account import Credentials

    with SandboxPubSub() as other:
        path = other.login.write_key_file(tmp_path / "key.json")
        content = path.read_text().replace(other.login.token_url, login.token_url)
    path.write_text(content)
    login.write_key_file(tmp_path / "own.json")
    credentials = Credentials.from_service_account_file(path, scopes=["pubsub"])
    with pytest.raises(RefreshError, match="invalid_grant"):
        credentials.refresh(Request())


def person(login, monkeypatch, **changes):
    """Log in as a person does, with a browser that follows where it is sent."""
    import urllib.request

    from google_auth_oauthlib.flow import InstalledAppFlow

    urls = {"auth_uri": login.authorise_url, "token_uri": login.token_url}
    client = {"client_id": login.client_id, "client_secret": login.client_secret} | changes
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # loopback
    flow = InstalledAppFlow.from_client_config(
        {"installed": client | urls}, scopes=["https://www.googleapis.com/auth/pubsub"]
    )

    class Browser:
        def open(self, url, **options):
            threading.Thread(target=visit, args=(url,), daemon=True).start()

    def visit(url):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(OSError), direct.open(url, timeout=PATIENCE_S) as page:
            page.read()

    monkeypatch.setattr("google_auth_oauthlib.flow.webbrowser.get", lambda *_: Browser())
    return flow.run_local_server(
        host="127.0.0.1", port=0, authorization_prompt_message=None, timeout_seconds=PATIENCE_S
    )


def test_a_person(secure, login, monkeypatch):
    from google.auth.exceptions import RefreshError
    from google.auth.transport.requests import Request

    credentials = person(login, monkeypatch)
    assert asks_as(secure, credentials) == secure.subscription_path
    secure.tokens.discard(credentials.token)
    with pytest.raises(exceptions.Unauthenticated):
        asks_as(secure, credentials)
    credentials.refresh(Request())
    assert asks_as(secure, credentials) == secure.subscription_path
    assert login.grants == ["authorization_code", "refresh_token"]
    login.refuses = "invalid_grant"
    with pytest.raises(RefreshError, match="invalid_grant"):
        credentials.refresh(Request())


def test_a_person_who_refuses(login, monkeypatch):
    from oauthlib.oauth2 import OAuth2Error

    login.refuses = "access_denied"
    with pytest.raises(OAuth2Error, match="access_denied"):
        person(login, monkeypatch)
    login.refuses = ""
    with pytest.raises(OAuth2Error, match="invalid_client"):
        person(login, monkeypatch, client_secret="another")
    assert login.grants == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/auth?client_id=x&redirect_uri=http://127.0.0.1:1", None, 400),
        ("GET", "/auth?redirect_uri=https://example.org", None, 400),
        ("GET", "/", None, 400),
        ("POST", "/token", b"grant_type=password", 400),
        ("POST", "/token", b"grant_type=refresh_token", 401),
        ("POST", "/token", b"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=a.b.c", 400),
        ("POST", "/token", b"&".join(b"a=1" for _ in range(60)), 400),
        ("POST", "/token", b"x" * 70_000, 400),
        ("POST", "/else", b"", 400),
    ],
)
def test_logins_that_are_wrong(login, method, path, body, status):
    import http.client
    from urllib.parse import urlsplit

    connection = http.client.HTTPConnection(urlsplit(login.token_url).netloc, timeout=PATIENCE_S)
    connection.request(method, path, body)
    answer = connection.getresponse()
    assert (answer.status, b"error" in answer.read()) == (status, True)
    connection.close()
