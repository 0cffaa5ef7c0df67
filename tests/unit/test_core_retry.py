"""Sending again: what is counted is what the server saw."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import http_support
from http_support import Loopback, reply
from nuncius._core.operations import Deadline, Request, Response, Sleep
from nuncius._core.retry import retry_after_s, send
from nuncius.errors import DeadlineError, TlsError, UnreachableError

ASKED = Request("POST", "http://host/api/queries", timeout_s=60.0)


@pytest.fixture(params=sorted(http_support.COLOURS))
def run(request):
    """Run an operation in either colour."""
    return http_support.COLOURS[request.param]


@pytest.fixture
def hasty(monkeypatch):
    """Shorten the pauses."""
    monkeypatch.setattr("nuncius._core.retry._FIRST_WAIT_S", 0.005)


def answering(*answers):
    """Make a server that gives these answers one after the other, the last one again and again."""
    left = list(answers)
    return Loopback(lambda _: left.pop(0) if len(left) > 1 else left[0])


def played(operation, *answers):
    """Feed answers to an operation, and give what it asked for and what it returned."""
    asked, answers = [], list(answers)
    need = next(operation)
    while True:
        asked.append(need)
        try:
            if isinstance(need, Sleep):
                need = operation.send(None)
                continue
            answer = answers.pop(0)
            need = operation.throw(answer) if isinstance(answer, Exception) else operation.send(answer)
        except StopIteration as end:
            return asked, end.value


def waits(asked):
    return [need.seconds for need in asked if isinstance(need, Sleep)]


# On the wire ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_question_is_asked_again_when_the_server_is_busy(run, hasty, status):
    with answering(reply(status), reply(status), reply(200, b"now")) as server:
        answer = run(send(Request("POST", server.url, body=b"x"), Deadline(20), reads=True))
    assert (answer.status, answer.body) == (200, b"now")
    assert len(server.requests) == 3
    assert {asked.body for asked in server.requests} == {b"x"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 500, 501])
def test_other_answers_are_final(run, status):
    with answering(reply(status)) as server:
        assert run(send(Request("GET", server.url), Deadline(20), reads=True)).status == status
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_writes_is_sent_once(run, status):
    with answering(reply(status)) as server:
        assert run(send(Request("POST", server.url), Deadline(20), reads=False)).status == status
    assert len(server.requests) == 1


def test_a_question_that_timed_out_is_sent_once(run):
    with Loopback(lambda _: iter([2.0])) as server:
        with pytest.raises(DeadlineError, match="not asked again"):
            run(send(Request("POST", server.url, timeout_s=0.2), Deadline(20), reads=True))
        assert len(server.requests) == 1


def test_a_connection_that_broke_is_tried_again_only_for_a_question(run, hasty):
    with Loopback(lambda _: None) as server, pytest.raises(UnreachableError) as caught:
        run(send(Request("POST", server.url), Deadline(20), reads=True))
    assert caught.value.attempts == len(server.requests) == 4
    with Loopback(lambda _: None) as server, pytest.raises(UnreachableError) as caught:
        run(send(Request("POST", server.url), Deadline(20), reads=False))
    assert caught.value.attempts == len(server.requests) == 1


def test_what_was_never_sent_is_tried_again_even_if_it_writes(run, hasty):
    with Loopback(lambda _: None) as gone:
        url = gone.url
    with pytest.raises(UnreachableError, match="nobody answers") as caught:
        run(send(Request("DELETE", url), Deadline(20), reads=False))
    assert caught.value.attempts == 4


def test_an_idle_connection_that_the_server_has_closed_costs_nothing(run, hasty):
    """The connection is closed after each answer without a word, as servers do with idle ones."""
    with Loopback(lambda _: iter([reply(body=b"here")])) as server:

        def several():
            for _ in range(5):
                answer = yield from send(Request("GET", server.url), Deadline(20), reads=True)
                assert answer.body == b"here"
                yield Sleep(0.02)

        run(several())
    assert len(server.requests) == 5


def test_the_deadline_covers_all_attempts(run):
    begin = time.monotonic()
    with answering(reply(503)) as server:
        answer = run(send(Request("GET", server.url), Deadline(0.5), reads=True))
    assert answer.status == 503, "the last answer says more than that the time is over"
    assert time.monotonic() - begin < 1.0


def test_retry_after_is_kept(run):
    with answering(reply(503, headers={"retry-after": "1"}), reply(200)) as server:
        assert run(send(Request("GET", server.url), Deadline(20), reads=True)).status == 200
        first, second = server.requests
    assert 1.0 <= second.at - first.at < 2.5


# Without a network ----------------------------------------------------------------------------------------------------


def test_the_pauses_grow_and_differ():
    seen = [
        waits(played(send(ASKED, Deadline(None), reads=True), *[Response(503, {}, b"")] * 4)[0])
        for _ in range(40)
    ]
    assert {len(pauses) for pauses in seen} == {3}
    means = [sum(pauses[index] for pauses in seen) / len(seen) for index in range(3)]
    assert means[0] < means[1] < means[2] < 3
    assert len({pauses[0] for pauses in seen}) > 30, "many clients would come back at the same moment"


def test_the_deadline_cuts_each_attempt():
    asked, _ = played(send(ASKED, Deadline(5), reads=True), Response(200, {}, b""))
    assert 4 < asked[0].timeout_s <= 5
    asked, _ = played(send(ASKED, Deadline(None), reads=True), Response(200, {}, b""))
    assert asked[0].timeout_s == 60


def test_nothing_is_sent_after_the_deadline():
    deadline = Deadline(0.001)
    time.sleep(0.005)
    with pytest.raises(DeadlineError):
        next(send(ASKED, deadline, reads=True))


def test_a_pause_beyond_the_deadline_is_not_begun():
    asked, answer = played(
        send(ASKED, Deadline(10), reads=True), Response(429, {"retry-after": "11"}, b"slow down")
    )
    assert (waits(asked), answer.body) == ([], b"slow down")


@pytest.mark.parametrize("text", ["86400", "9" * 400])
def test_without_a_deadline_nobody_waits_for_a_day(text):
    asked, answer = played(send(ASKED, Deadline(None), reads=True), Response(503, {"retry-after": text}, b""))
    assert (waits(asked), answer.status) == ([], 503)


@pytest.mark.parametrize("reads", [True, False])
def test_a_connection_that_is_not_safe_is_not_tried_again(reads):
    with pytest.raises(TlsError):
        played(send(ASKED, Deadline(None), reads=reads), TlsError("no"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("١٢", None),
        ("Sat, 99 Nov 2026 99:99:99 GMT", None),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0.0),
        ("Sat, 01 Jan 99999999999 00:00:00 GMT", None),
    ],
)
def test_how_long_a_server_asks_us_to_wait(text, seconds):
    assert retry_after_s(Response(503, {"retry-after": text}, b"")) == seconds


def test_a_date_to_wait_for():
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    wait = retry_after_s(Response(503, {"retry-after": when}, b""))
    assert 28 < wait <= 30
    assert retry_after_s(Response(503, {}, b"")) is None
