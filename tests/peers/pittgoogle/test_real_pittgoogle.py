"""The real pittgoogle-client 0.3.23 against the sandbox's Pub/Sub server."""

import io
import json
import struct
import threading
import time

import pytest

pytestmark = [
    pytest.mark.xdist_group("real-pittgoogle"),
    # It loads key files in a way that google-auth discourages.
    pytest.mark.filterwarnings("ignore:The load_credentials_from_file method:DeprecationWarning"),
]

PITTGOOGLE = "ardent-cycling-243415"


def wait_for(condition, what="what was waited for"):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


@pytest.fixture
def subscription(pittgoogle, auth):
    """Return a subscription of ours to Pitt-Google's topic, which can't be touched but read."""
    topic = pittgoogle.Topic("ztf-loop", projectid=PITTGOOGLE)
    made = pittgoogle.Subscription("mine", topic=topic, auth=auth, schema_name="default")
    made.touch()
    return made


def json_alerts(many):
    return [json.dumps({"objectId": f"ZTF26{n:07d}", "candid": n}).encode() for n in range(many)]


def candids(alerts):
    return sorted(alert.dict["candid"] for alert in alerts)


def test_a_topic(pittgoogle, auth, box):
    topic = pittgoogle.Topic("my-topic", auth=auth)
    topic.touch()
    topic.touch()
    assert topic.path == f"projects/{box.project}/topics/my-topic"
    assert [request.rpc for request in box.requests] == ["GetTopic", "CreateTopic", "GetTopic"]
    topic.delete()
    topic.delete()


def test_touch_and_delete_a_subscription(pittgoogle, auth, box, subscription):
    assert subscription.path == f"projects/{box.project}/subscriptions/mine"
    again = pittgoogle.Subscription("mine", auth=auth)
    again.touch()
    assert again.topic.path == f"projects/{PITTGOOGLE}/topics/ztf-loop"
    subscription.delete()
    subscription.delete()
    with pytest.raises(TypeError, match="no topic was provided"):
        pittgoogle.Subscription("mine", auth=auth).touch()


def test_subscriptions_that_can_not_be(pittgoogle, auth, subscription):
    error = pittgoogle.exceptions.CloudConnectionError
    other = pittgoogle.Topic("ztf-lite", projectid=PITTGOOGLE)
    with pytest.raises(error, match="InvalidTopic"):
        pittgoogle.Subscription("mine", auth=auth, topic=other).touch()
    missing = pittgoogle.Topic("ztf-nothing", projectid=PITTGOOGLE)
    with pytest.raises(error, match="NotFound"):
        pittgoogle.Subscription("new", auth=auth, topic=missing).touch()
    with pytest.raises(error, match="NotFound"):
        pittgoogle.Subscription("new", auth=auth).pull_batch()


def test_pull_a_batch(box, subscription):
    box.publish("ztf-loop", json_alerts(10), attributes={"pg_variable": "likely", "kafka.topic": "ztf"})
    alerts = subscription.pull_batch(max_messages=4) + subscription.pull_batch(max_messages=100)
    assert candids(alerts) == list(range(10))
    assert alerts[0].attributes["kafka.topic"] == "ztf"
    assert box.counts("mine")[:4] == (0, 0, 10, 10)
    assert subscription.pull_batch() == []


def test_publish(pittgoogle, auth, box):
    topic = pittgoogle.Topic("my-topic", auth=auth)
    topic.touch()
    subscription = pittgoogle.Subscription("mine", auth=auth, topic=topic, schema_name="default")
    subscription.touch()
    alert = pittgoogle.Alert.from_dict({"candid": 7}, attributes={"survey": "ztf"}, schema_name="default")
    published = topic.publish(alert)
    (received,) = subscription.pull_batch()
    assert (received.dict, received.attributes["survey"]) == ({"candid": 7}, "ztf")
    assert received.msg.message_id == published


def test_an_attribute_filter(pittgoogle, auth, box):
    topic = pittgoogle.Topic("lsst-alerts-json", projectid="pitt-alert-broker")
    subscription = pittgoogle.Subscription("no-asteroids", auth=auth, topic=topic, schema_name="default")
    subscription.touch(attribute_filter="attributes:diaObject_diaObjectId")
    kinds = [{"diaObject_diaObjectId": "1"}, {"ssObject_ssObjectId": "2"}, {"diaObject_diaObjectId": "3"}]
    box.publish("lsst-alerts-json", json_alerts(3), attributes=kinds)
    assert candids(subscription.pull_batch(max_messages=10)) == [0, 2]
    assert box.counts("no-asteroids").filtered == 1


@pytest.mark.parametrize("many", [10, 1500])
def test_stream(pittgoogle, box, subscription, many):
    box.publish("ztf-loop", json_alerts(many))
    lock, seen = threading.Lock(), []

    def keep(alert):
        with lock:
            seen.append(json.loads(alert.msg.data)["candid"])
        return pittgoogle.pubsub.Response(ack=True)

    consumer = pittgoogle.pubsub.Consumer(subscription=subscription, msg_callback=keep)
    consumer.stream(block=False)
    wait_for(lambda: box.counts("mine").acknowledged == many, "all acknowledgements")
    consumer.stop()
    assert sorted(seen) == list(range(many))
    assert box.counts("mine").leased == 0


def test_what_a_callback_refuses_comes_again(pittgoogle, box, subscription):
    box.publish("ztf-loop", json_alerts(5))
    lock, seen = threading.Lock(), {}

    def second_time(alert):
        candid = json.loads(alert.msg.data)["candid"]
        with lock:
            seen[candid] = seen.get(candid, 0) + 1
            return pittgoogle.pubsub.Response(ack=seen[candid] == 2)

    consumer = pittgoogle.pubsub.Consumer(subscription=subscription, msg_callback=second_time)
    consumer.stream(block=False)
    wait_for(lambda: box.counts("mine").acknowledged == 5)
    consumer.stop()
    assert seen == dict.fromkeys(range(5), 2)
    assert box.counts("mine").released == 5


def test_a_stream_goes_on_after_a_broken_connection(pittgoogle, box, subscription):
    consumer = pittgoogle.pubsub.Consumer(
        subscription=subscription, msg_callback=lambda _: pittgoogle.pubsub.Response(ack=True)
    )
    consumer.stream(block=False)
    wait_for(lambda: box.open_streams == 1)
    box.drop_streams()
    box.publish("ztf-loop", json_alerts(3))
    wait_for(lambda: box.counts("mine").acknowledged == 3)
    consumer.stop()


def test_purge(box, subscription, monkeypatch):
    """It seeks to the present, as a clock on the wall shows it."""
    box.publish("ztf-loop", json_alerts(3))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        subscription.purge()
    time.tzset()
    assert box.counts("mine").waiting == 0


def test_packets_of_lsst(pittgoogle, auth, box, packets_dir):
    """In Confluent's frame, as Pitt-Google passes them on."""
    import fastavro

    topic = pittgoogle.Topic("lsst-alerts", projectid="pitt-alert-broker")
    subscription = pittgoogle.Subscription("lsst", auth=auth, topic=topic, schema_name="lsst")
    subscription.touch()
    framed, records = [], []
    for path in sorted((packets_dir / "lsst" / "samples").glob("*/*.avro")):
        version = path.parent.name.removeprefix("v").split("_")
        with path.open("rb") as file:
            reader = fastavro.reader(file)
            for record in reader:
                frame = io.BytesIO()
                fastavro.schemaless_writer(frame, reader.writer_schema, record)
                framed.append(
                    struct.pack(">bi", 0, int(version[0]) * 100 + int(version[1])) + frame.getvalue()
                )
                records.append(record)
    assert framed
    box.publish("lsst-alerts", framed)
    alerts = subscription.pull_batch(max_messages=100)
    assert [alert.msg.data for alert in alerts] == framed
    assert [alert.dict["diaSource"]["diaSourceId"] for alert in alerts] == [
        record["diaSource"]["diaSourceId"] for record in records
    ]
