"""What tom_pittgoogle's documentation promises and its releases do not do: each with the server's own counts."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from pittgoogle_support import CUTOUT, STREAM, left, name_of, names, packet, packets

from nuncius.compat.tom_pittgoogle.consumer_stream_python import ConsumerStreamPython
from nuncius.errors import ConfigurationError, ForbiddenError, NotFoundError
from streams_support import wait_until

pytest_plugins = ["pittgoogle_fixtures"]

FIELDS = {"objectId", "candid", "jd", "ra", "dec", "magpsf", "classtar"}


def object_ids(alerts):
    return [alert["objectId"] for alert in alerts]


def _with_limit(alert, limit):
    return {"ack": alert["candid"] < limit}


# When it stops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_backlog", [1000, 10, 3, None])
def test_max_results_is_exact(pubsub, consumer, max_backlog):
    pubsub.publish(STREAM, packets(20))
    found = consumer.stream_alerts(
        return_list=True, flow_configs={"max_results": 10, "timeout": 10, "max_backlog": max_backlog}
    )
    assert object_ids(found) == names(10)
    assert left(pubsub) == (10, 0, 10, 0)
    others = consumer.stream_alerts(flow_configs={"timeout": 5})  # in any order
    assert sorted(object_ids(others)) == names(10, first=10)
    assert left(pubsub) == (0, 0, 20, 0)


def test_without_flow_configs_there_are_defaults(pubsub, consumer):
    pubsub.publish(STREAM, packets(20))
    assert object_ids(consumer.stream_alerts()) == names(10)
    assert left(pubsub) == (10, 0, 10, 0)


def test_no_limit_of_results(pubsub, consumer):
    pubsub.publish(STREAM, packets(25))
    begin = time.monotonic()
    found = consumer.stream_alerts(flow_configs={"max_results": None, "timeout": 1})
    assert object_ids(found) == names(25)
    assert left(pubsub) == (0, 0, 25, 0)
    assert 1 <= time.monotonic() - begin < 5


def test_the_timeout_is_the_time_without_a_new_message(pubsub, consumer):
    def publish_slowly():
        for number in range(4):
            time.sleep(0.6)
            pubsub.publish(STREAM, [packet(number)])

    publisher = threading.Thread(target=publish_slowly)
    publisher.start()
    begin = time.monotonic()
    found = consumer.stream_alerts(flow_configs={"timeout": 1})
    publisher.join()
    assert object_ids(found) == names(4)
    assert time.monotonic() - begin > 3


def test_no_limit_at_all_ends_when_it_is_cancelled(pubsub, consumer):
    pubsub.publish(STREAM, packets(5))
    seen = []

    def user_callback(alert):
        seen.append(alert["objectId"])
        if len(seen) == 3:
            consumer.streaming_pull_future.cancel()
        return {"ack": True}

    endless = {"max_results": None, "timeout": None}
    found = consumer.stream_alerts(user_callback=user_callback, return_list=True, flow_configs=endless)
    assert object_ids(found) == seen == names(3)
    assert left(pubsub) == (2, 0, 3, 0)
    assert consumer.streaming_pull_future.result(timeout=0) is True
    assert consumer.streaming_pull_future.cancelled()


def test_what_would_never_return_holds_no_results(pubsub, consumer):
    pubsub.publish(STREAM, packets(5))

    def user_callback(alert):
        if alert["candid"] == 4:
            consumer.streaming_pull_future.cancel()
        return {"ack": True}

    endless = {"max_results": None, "timeout": None}
    assert consumer.stream_alerts(user_callback=user_callback, flow_configs=endless) == []
    assert left(pubsub) == (0, 0, 5, 0)


def test_each_call_has_a_list_of_its_own(pubsub, consumer):
    pubsub.publish(STREAM, packets(16))
    first = consumer.stream_alerts(flow_configs={"timeout": 1})
    second = consumer.stream_alerts(flow_configs={"timeout": 1})
    assert (object_ids(first), object_ids(second)) == (names(10), names(6, first=10))
    assert consumer.database_list is second


def test_one_pull_at_a_time(pubsub, consumer):
    pubsub.publish(STREAM, packets(1))
    errors = []

    def user_callback(alert):
        try:
            consumer.stream_alerts()
        except ConfigurationError as error:
            errors.append(str(error))
        return {"ack": True}

    assert len(consumer.stream_alerts(user_callback=user_callback, flow_configs={"max_results": 1})) == 1
    assert "another" in errors[0]


@pytest.mark.parametrize("name", ["max_results", "timeout", "max_backlog"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True])
def test_limits_are_positive_integers(pubsub, consumer, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a positive integer or None.$"):
        consumer.stream_alerts(flow_configs={name: value})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"flow_configs": {"max_result": 3}}, "known are max_results"),
        ({"send_data": "alert"}, "'alert_dict', 'alert_bytes', 'full_msg'"),
        ({"max_results": 3}, "flow_configs"),
        ({"user_callback": "print"}, "no function"),
        ({"user_callback": lambda _: {"ack": True}, "limit": 3}, "limit"),
        ({"user_callback": _with_limit}, "limit"),
    ],
)
def test_what_can_not_work_is_refused_before_anything_is_received(pubsub, consumer, arguments, match):
    pubsub.publish(STREAM, packets(3))
    with pytest.raises(ConfigurationError, match=match):
        consumer.stream_alerts(**arguments)
    assert pubsub.counts().delivered == 0


# What is handed out ---------------------------------------------------------------------------------------------------


def test_alerts_of_ztf_loop_are_light(pubsub, consumer):
    pubsub.publish(STREAM, [packet(7)])
    (alert,) = consumer.stream_alerts(flow_configs={"max_results": 1})
    assert alert == {
        "objectId": name_of(7), "candid": 7, "jd": 2459000.75, "ra": 10.0 + 7 / 64, "dec": -20.5,
        "magpsf": 18.5, "classtar": 0.5,
    }  # fmt: skip


def test_alerts_of_other_topics_are_whole(pubsub):
    consumer = ConsumerStreamPython("ztf-alerts")
    pubsub.publish("ztf-alerts", [packet(7)])
    (alert,) = consumer.stream_alerts(flow_configs={"max_results": 1})
    assert alert["candidate"]["classtar"] == 0.5
    assert alert["cutoutScience"] == CUTOUT


def test_save_fields_says_what_is_kept(pubsub):
    consumer = ConsumerStreamPython(
        "lsst-alerts-json",
        {
            "top-level": ["diaSourceId"],
            "diaSource": ["ra", "snr"],
            "metadata": ["kafka.offset", "message_id"],
        },
    )
    sent = {"diaSourceId": 9, "diaSource": {"ra": 1.5, "dec": 2.5}, "observation_reason": "x"}
    (number,) = pubsub.publish(
        "lsst-alerts-json", [json.dumps(sent).encode()], attributes={"kafka.offset": "42", "more": "1"}
    )
    (found,) = consumer.stream_alerts(include_metadata=True, flow_configs={"max_results": 1})
    assert found == {
        "metadata_dict": {"kafka.offset": "42", "message_id": number},
        "alert_dict": {"diaSourceId": 9, "ra": 1.5, "snr": None},
    }


@pytest.mark.parametrize(
    ("save_fields", "match"),
    [(["objectId"], "mapping"), ({"candidate": "ra"}, "lists"), ({"a": ["ra"], "b": ["ra"]}, "twice")],
)
def test_save_fields_that_can_not_work(pubsub, save_fields, match):
    with pytest.raises(ConfigurationError, match=match):
        ConsumerStreamPython(STREAM, save_fields)


def test_metadata_beside_the_alert(pubsub, consumer):
    begin = datetime.now(UTC)
    (number,) = pubsub.publish(
        STREAM, [packet(1)], attributes={"kafka.timestamp": "170", "kafka.offset": "3"}
    )
    (found,) = consumer.stream_alerts(include_metadata=True, flow_configs={"max_results": 1})
    assert found.keys() == {"metadata_dict", "alert_dict"}
    assert found["alert_dict"].keys() == FIELDS
    metadata = found["metadata_dict"]
    assert metadata.keys() == {"message_id", "publish_time", "kafka.timestamp"}
    assert (metadata["message_id"], metadata["kafka.timestamp"]) == (number, "170")
    assert abs(metadata["publish_time"] - begin) < timedelta(seconds=30)


def test_bytes_as_they_were_sent(pubsub):
    consumer = ConsumerStreamPython("ztf-alerts")
    sent = [packet(1), b"no alert at all", b""]
    ids = pubsub.publish("ztf-alerts", sent, attributes={"a": "1", "b": "2"})
    found = consumer.stream_alerts("alert_bytes", include_metadata=True, flow_configs={"max_results": 3})
    assert [message["alert_bytes"] for message in found] == sent
    assert [message["metadata_dict"]["message_id"] for message in found] == ids
    assert {message["metadata_dict"]["b"] for message in found} == {"2"}
    assert left(pubsub, "ztf-alerts") == (0, 0, 3, 0)


def test_the_whole_message(pubsub, consumer):
    from google.pubsub_v1.types import PubsubMessage

    (number,) = pubsub.publish(
        STREAM,
        [packet(1)],
        attributes={"a": "1"},
        ordering_key="x",
        publish_time=datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC),
    )
    (message,) = consumer.stream_alerts(
        send_data="full_msg", include_metadata=True, flow_configs={"max_results": 1}
    )
    assert isinstance(message, PubsubMessage)
    assert (message.data, dict(message.attributes), message.message_id) == (packet(1), {"a": "1"}, number)
    assert message.ordering_key == "x"
    assert message.publish_time == datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)


# What a callback says -------------------------------------------------------------------------------------------------


def test_a_callback_gets_its_own_arguments_and_nothing_else(pubsub, consumer):
    pubsub.publish(STREAM, packets(3))
    seen = []

    def user_callback(alert, **more):
        seen.append((alert["candid"], more))
        return {"ack": True, "result": alert["candid"] * more["factor"]}

    found = consumer.stream_alerts(user_callback=user_callback, factor=2, flow_configs={"max_results": 3})
    assert found == [0, 2, 4]
    assert seen == [(number, {"factor": 2}) for number in range(3)]


def test_a_result_of_none_is_neither_counted_nor_kept(pubsub, consumer):
    pubsub.publish(STREAM, packets(20))

    def user_callback(alert):
        return {"ack": True, "result": None if alert["candid"] % 2 else alert["candid"]}

    found = consumer.stream_alerts(user_callback=user_callback, flow_configs={"max_results": 4})
    assert found == [0, 2, 4, 6]
    assert left(pubsub) == (13, 0, 7, 0)


def test_a_callback_that_rejects_all_has_looked_at_all(pubsub, consumer):
    pubsub.publish(STREAM, packets(5))
    reject = {"ack": True, "result": None}
    assert consumer.stream_alerts(user_callback=lambda _: reject, flow_configs={"timeout": 1}) == []
    assert left(pubsub) == (0, 0, 5, 0)


@pytest.mark.parametrize("answer", [{"ack": False}, {"ack": False, "result": None}])
def test_what_is_not_acknowledged_comes_again_later(pubsub, consumer, answer):
    pubsub.publish(STREAM, packets(4))
    seen = []

    def user_callback(alert):
        seen.append(alert["candid"])
        return {"ack": True} if alert["candid"] != 1 or seen.count(1) == 3 else answer

    begin = time.monotonic()
    found = consumer.stream_alerts(user_callback=user_callback, flow_configs={"max_results": 4})
    assert [alert["candid"] for alert in found] == [0, 2, 3, 1]
    assert time.monotonic() - begin >= 3  # 1 s, then 2 s
    assert left(pubsub) == (0, 0, 4, 0)
    assert pubsub.counts().delivered == 4


def test_what_is_never_acknowledged_is_given_back_at_once(pubsub, consumer):
    pubsub.publish(STREAM, packets(4))
    found = consumer.stream_alerts(user_callback=lambda _: {"ack": False}, flow_configs={"timeout": 1})
    assert found == []
    assert left(pubsub) == (4, 0, 0, 0)


def test_a_result_without_an_acknowledgement_counts_once(pubsub, consumer):
    pubsub.publish(STREAM, packets(6))

    def look(alert):
        return {"ack": False, "result": alert["candid"]}

    assert consumer.stream_alerts(user_callback=look, flow_configs={"max_results": 4}) == [0, 1, 2, 3]
    assert left(pubsub) == (6, 0, 0, 0)
    found = consumer.stream_alerts(
        user_callback=look, flow_configs={"max_results": None, "timeout": 2, "max_backlog": 2}
    )
    assert sorted(found) == list(range(6))
    assert left(pubsub) == (6, 0, 0, 0)


def test_a_callback_that_always_raises_makes_no_hot_loop(pubsub, consumer, caplog, tmp_path):
    pubsub.publish(STREAM, packets(5))
    count = 0

    def user_callback(alert):
        nonlocal count
        count += 1
        raise RuntimeError("the database is down")

    begin = time.monotonic()
    with caplog.at_level(logging.WARNING, "nuncius.pittgoogle"):
        assert consumer.stream_alerts(user_callback=user_callback, flow_configs={"timeout": 3}) == []
    assert 3 <= time.monotonic() - begin < 6
    assert 10 <= count <= 15  # at once, after 1 s, and after 2 s more
    assert left(pubsub) == (5, 0, 0, 0)
    assert pubsub.counts().delivered == 5
    assert not list(tmp_path.rglob("*.packet"))
    assert "the database is down" in caplog.text


def test_a_callback_that_raises_once_loses_nothing(pubsub, consumer):
    pubsub.publish(STREAM, packets(10))
    failed = []

    def user_callback(alert):
        if not failed:
            failed.append(alert["candid"])
            raise RuntimeError("once")
        return {"ack": True}

    found = consumer.stream_alerts(user_callback=user_callback, flow_configs={"max_results": 10})
    assert sorted(object_ids(found)) == names(10)
    assert left(pubsub) == (0, 0, 10, 0)


def test_what_fails_does_not_stop_the_others(pubsub, consumer):
    pubsub.publish(STREAM, packets(30))

    def user_callback(alert):
        return {"ack": alert["candid"] >= 12}

    found = consumer.stream_alerts(
        user_callback=user_callback, flow_configs={"max_results": 15, "timeout": 10, "max_backlog": 4}
    )
    assert [alert["candid"] for alert in found] == list(range(12, 27))
    assert left(pubsub) == (15, 0, 15, 0)


def test_a_slow_callback_keeps_to_the_backlog(pubsub, consumer):
    pubsub.publish(STREAM, packets(40))
    held = []

    def user_callback(alert):
        time.sleep(0.8)  # longer than a stream waits before it takes the caller for starved
        held.append(pubsub.counts().leased)
        return {"ack": True}

    consumer.stream_alerts(user_callback=user_callback, flow_configs={"max_results": 5, "max_backlog": 4})
    assert max(held) <= 5  # the one in hand was perhaps acknowledged, and the server does not know it yet
    assert left(pubsub) == (35, 0, 5, 0)


@pytest.mark.parametrize("answer", [None, True, {}, {"result": 1}, {"ack": True, "results": 1}])
def test_an_answer_that_means_nothing_is_an_error_and_loses_nothing(pubsub, consumer, answer):
    pubsub.publish(STREAM, packets(3))
    with pytest.raises(TypeError, match="it must return") as caught:
        consumer.stream_alerts(user_callback=lambda _: answer)
    assert isinstance(caught.value, ConfigurationError)
    assert left(pubsub) == (3, 0, 0, 0)
    with pytest.raises(ConfigurationError):
        consumer.streaming_pull_future.result(timeout=0)


def test_ctrl_c_leaves_what_was_collected(pubsub, consumer):
    pubsub.publish(STREAM, packets(8))

    def user_callback(alert):
        if alert["candid"] == 3:
            raise KeyboardInterrupt
        return {"ack": True}

    with pytest.raises(KeyboardInterrupt):
        consumer.stream_alerts(user_callback=user_callback)
    assert object_ids(consumer.database_list) == names(3)
    assert left(pubsub) == (5, 0, 3, 0)


# When something is wrong ----------------------------------------------------------------------------------------------


def test_what_can_not_be_read_is_kept_and_the_stream_goes_on(pubsub, consumer, tmp_path):
    damaged = packet(2)[:-40]
    pubsub.publish(STREAM, [packet(1), b"no alert", damaged, packet(3)])
    found = consumer.stream_alerts(flow_configs={"timeout": 1})
    assert object_ids(found) == [name_of(1), name_of(3)]
    assert left(pubsub) == (0, 0, 4, 0)
    kept = {path.read_bytes() for path in tmp_path.rglob("*.packet")}
    assert kept == {b"no alert", damaged}


def test_a_passing_failure_is_waited_for(pubsub, consumer):
    pubsub.publish(STREAM, packets(10))
    pubsub.fail("StreamingPull", "UNAVAILABLE", times=2)
    assert object_ids(consumer.stream_alerts()) == names(10)
    assert left(pubsub) == (0, 0, 10, 0)


def test_a_failure_that_does_not_pass_is_told(pubsub, consumer, caplog):
    pubsub.publish(STREAM, packets(3))
    pubsub.fail("StreamingPull", "UNAVAILABLE", times=None, text="out for maintenance")
    with caplog.at_level(logging.WARNING, "nuncius.pittgoogle"):
        assert consumer.stream_alerts(flow_configs={"timeout": 1}) == []
    assert "out for maintenance" in caplog.text
    assert left(pubsub) == (3, 0, 0, 0)


def test_a_refusal_is_raised_here_and_keeps_the_results(pubsub, consumer):
    pubsub.publish(STREAM, packets(10))
    pubsub.fail("StreamingPull", "PERMISSION_DENIED", after=4, times=None)
    with pytest.raises(PermissionError) as caught:
        consumer.stream_alerts()
    assert isinstance(caught.value, ForbiddenError)
    assert object_ids(consumer.database_list) == names(len(consumer.database_list))
    assert pubsub.counts().acknowledged == len(consumer.database_list)


def test_a_subscription_that_is_gone(pubsub, consumer):
    consumer.delete_subscription()
    with pytest.raises(NotFoundError, match="ztf-loop"):
        consumer.stream_alerts()


# The subscription -----------------------------------------------------------------------------------------------------


def test_a_missing_subscription_is_made(pubsub):
    pubsub.publish("ztf-lite", packets(2))
    consumer = ConsumerStreamPython("ztf-lite")
    pubsub.publish("ztf-lite", packets(3, first=2))
    assert consumer.subscription_path == "projects/nuncius-sandbox/subscriptions/ztf-lite"
    assert consumer.topic_path == "projects/ardent-cycling-243415/topics/ztf-lite"
    assert object_ids(consumer.stream_alerts(flow_configs={"timeout": 1})) == names(3, first=2)


def test_topics_of_rubin_are_in_another_project(pubsub):
    assert ConsumerStreamPython("lsst-alerts").topic_path == "projects/pitt-alert-broker/topics/lsst-alerts"


def test_a_topic_that_does_not_exist(pubsub):
    with pytest.raises(ValueError, match=r"'ztf-lop'.*ztf-loop") as caught:
        ConsumerStreamPython("ztf-lop")
    assert isinstance(caught.value, NotFoundError)


def test_a_subscription_on_another_topic_is_taken_as_it_is(pubsub):
    pubsub.create_subscription("mine", "ztf-alerts")
    consumer = ConsumerStreamPython("mine")
    assert consumer.topic_path == "projects/ardent-cycling-243415/topics/ztf-alerts"
    pubsub.publish("ztf-alerts", packets(1))
    assert "candidate" in consumer.stream_alerts(flow_configs={"max_results": 1})[0]


def test_a_topic_can_be_named(pubsub):
    assert ConsumerStreamPython("mine", topic="ztf-lite").topic_path.endswith("243415/topics/ztf-lite")
    path = "projects/pitt-alert-broker/topics/lsst-alerts"
    assert ConsumerStreamPython("theirs", topic="lsst-alerts").topic_path == path
    assert ConsumerStreamPython("theirs", topic=path).topic_path == path


def test_a_deleted_topic_is_told(pubsub, caplog):
    path = pubsub.create_topic("passing")
    pubsub.create_subscription("passing", path)
    consumer = ConsumerStreamPython("passing")
    from google.cloud.pubsub_v1 import PublisherClient

    PublisherClient().delete_topic(topic=path)
    with caplog.at_level(logging.WARNING, "nuncius.pittgoogle"):
        consumer.touch_subscription()
    assert "nothing new will come" in caplog.text
    pubsub.create_topic("passing", "ardent-cycling-243415")
    consumer.delete_subscription()
    consumer.touch_subscription()
    assert consumer.topic_path == "projects/ardent-cycling-243415/topics/passing"


def test_deleting_twice_is_no_error(pubsub, consumer):
    pubsub.publish(STREAM, packets(3))
    consumer.delete_subscription()
    consumer.delete_subscription()
    with pytest.raises(NotFoundError):
        pubsub.counts()
    consumer.touch_subscription()
    assert pubsub.counts().waiting == 0


def test_the_link_leads_to_the_subscription(pubsub, consumer):
    assert consumer.pull_url == (
        "https://console.cloud.google.com/cloudpubsub/subscription/detail/ztf-loop?project=nuncius-sandbox"
    )


@pytest.mark.parametrize("name", ["", None, 3, "a/b/c", "goog-mine", "x"])
def test_names_that_can_not_be(pubsub, name):
    with pytest.raises(ValueError, match=r"name|understood"):
        ConsumerStreamPython(name)


# With Google's own client ---------------------------------------------------------------------------------------------


def test_the_client_is_googles(pubsub, consumer):
    from google.cloud.pubsub_v1 import SubscriberClient

    assert isinstance(consumer.client, SubscriberClient)
    pubsub.publish(STREAM, packets(1))
    response = consumer.client.pull(subscription=consumer.subscription_path, max_messages=1)
    assert response.received_messages[0].message.data == packet(0)


def test_the_callback_serves_googles_own_pull(pubsub, consumer):
    pubsub.publish(STREAM, packets(5))
    future = consumer.client.subscribe(consumer.subscription_path, consumer.callback)
    try:
        found = [consumer.queue.get(timeout=10) for _ in range(5)]
        wait_until(lambda: pubsub.counts().acknowledged == 5)
    finally:
        future.cancel()
        future.result(timeout=10)
    assert sorted(object_ids(found)) == names(5)


def test_without_a_client_of_google_nothing_of_it_is_loaded(pubsub, consumer):
    assert "client" not in vars(consumer)
    consumer.stream_alerts(flow_configs={"max_results": 1, "timeout": 1})
    assert "client" not in vars(consumer)
