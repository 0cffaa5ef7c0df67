"""What a subscription has lent us: pure bookkeeping, and the chores that keep it."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuncius.errors import ForbiddenError, TlsError, UnreachableError
from nuncius.streams.delivery import MessageLedger
from nuncius.streams.pubsub import keeper as keeper_module
from nuncius.streams.pubsub.keeper import Chore
from nuncius.streams.pubsub.leases import Leases, number_of


def held(count=3):
    leases = Leases()
    for number in range(count):
        assert leases.take(number, f"a{number}", 10)
    return leases


def acknowledge(leases):
    """Do what the keeper does, with a server that confirms; return the ids that were sent."""
    sent = leases.finished(1000)
    leases.acknowledged(sent)
    return [ack_id for _, ack_id in sent]


# Leases ---------------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_to_be_acknowledged_and_then_gone():
    leases = held()
    leases.finish(1)
    assert (leases.count, leases.size, leases.to_acknowledge) == (3, 30, 1)
    assert acknowledge(leases) == ["a1"]
    assert (leases.count, leases.size, leases.to_acknowledge) == (2, 20, 0)
    assert sorted(leases.ack_ids()) == ["a0", "a2"]


def test_the_leases_of_what_is_finished_are_extended_until_that_is_confirmed():
    leases = held()
    leases.finish(1)
    assert sorted(leases.ack_ids()) == ["a0", "a1", "a2"]


def test_what_comes_again_while_it_is_held_is_not_new():
    leases = held()
    assert not leases.take(1, "b1", 10)
    assert (leases.count, leases.size) == (3, 30)
    leases.finish(1)
    assert acknowledge(leases) == ["b1"]


def test_what_comes_again_while_it_is_acknowledged_is_acknowledged_again():
    leases = held()
    leases.finish(1)
    sent = leases.finished(1000)
    assert not leases.take(1, "b1", 10)
    leases.acknowledged(sent)
    assert acknowledge(leases) == ["b1"]
    assert leases.take(1, "c1", 10)


def test_what_is_given_back_is_not_ours():
    leases = held()
    leases.finish(2)
    assert sorted(leases.give_back()) == ["a0", "a1"]
    leases.finish(0)
    assert (leases.count, leases.size, leases.to_acknowledge) == (1, 10, 1)
    assert leases.give_back() == []
    assert leases.take(0, "b0", 10)


def test_finishing_twice_or_what_never_came_changes_nothing():
    leases = held()
    leases.finish(1)
    leases.finish(1)
    leases.finish(77)
    assert leases.to_acknowledge == 1


def test_no_more_than_asked_for_is_sent_at_once():
    leases = held(30)
    for number in range(30):
        leases.finish(number)
    assert len(leases.finished(12)) == 12
    assert leases.finished(12) == leases.finished(12)


STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "finish", "send", "confirm", "back"]), st.integers(0, 5)), max_size=60
)


@given(STEPS)
def test_whatever_happens_nothing_is_acknowledged_unfinished_and_nothing_finished_is_forgotten(steps):
    """A message is sent to be acknowledged only if it was finished while it was ours, and until that is confirmed."""
    leases, ours, done, sent = Leases(), {}, {}, []
    for count, (step, number) in enumerate(steps):
        ack_id = f"{number}-{count}"
        if step == "take":
            is_new = number not in ours and number not in done
            assert leases.take(number, ack_id, 7) is is_new
            (done if number in done else ours)[number] = ack_id
        elif step == "finish":
            leases.finish(number)
            if number in ours:
                done[number] = ours.pop(number)
        elif step == "send":
            sent = leases.finished(1000)
            assert dict(sent) == done
        elif step == "confirm":
            leases.acknowledged(sent)
            for one, ack_id in sent:
                if done.get(one) == ack_id:
                    del done[one]
            sent = []
        else:
            assert sorted(leases.give_back()) == sorted(ours.values())
            ours.clear()
        assert leases.count == len(ours) + len(done)
        assert leases.size == 7 * leases.count
        assert sorted(leases.ack_ids()) == sorted([*ours.values(), *done.values()])


def test_several_threads_at_once():
    leases = Leases()
    total = 4000
    done = threading.Event()

    def keep():
        while not done.is_set() or leases.to_acknowledge:
            acknowledge(leases)
            leases.ack_ids()

    def finish(first):
        for number in range(first, total, 2):
            while not leases.take(number, "x", 1):
                pass
            leases.finish(number)

    keeper = threading.Thread(target=keep)
    workers = [threading.Thread(target=finish, args=(first,)) for first in (0, 1)]
    for thread in (keeper, *workers):
        thread.start()
    for thread in workers:
        thread.join(60)
    done.set()
    keeper.join(60)
    assert (leases.count, leases.size, leases.to_acknowledge) == (0, 0, 0)


# Numbers of messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 42, 10**17, 999_999_999_999_999_999])
def test_googles_ids_are_numbers_already(number):
    assert number_of(str(number)) == number


OTHERS = [
    "",
    "0",
    "007",
    "7a",
    "-7",
    "+7",
    " 7",
    "7 ",
    "7_0",
    "\u0667",
    "\u00b2",
    "1" * 40,
    "projects/a/b",
    "\U0001f52d",
]


@pytest.mark.parametrize("message_id", OTHERS)
def test_other_ids_get_a_number_that_fits(message_id):
    assert 0 <= number_of(message_id) < 2**63
    assert number_of(message_id) == number_of(message_id)


def test_different_ids_have_different_numbers():
    all_of_them = [*OTHERS, *map(str, range(1, 1000))]
    assert len({number_of(message_id) for message_id in all_of_them}) == len(all_of_them)


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_ids_are_never_one_message(one, other):
    assert (number_of(one) == number_of(other)) is (one == other)


# The ledger of messages -----------------------------------------------------------------------------------------------


def ledger():
    told = []
    return MessageLedger("sub", 0, lambda *_: None, told.append), told


def test_a_message_is_finished_when_all_its_alerts_are():
    book, told = ledger()
    first, second, other = book.enter(5), book.enter(5), book.enter(3)
    assert book.finish(second)
    assert told == []
    assert book.finish(other)
    assert told == [3]
    assert not book.finish(second)
    assert book.finish(first)
    assert told == [3, 5]
    assert book.committable is None


def test_a_ledger_that_was_left_finishes_nothing():
    """The stream was moved: the same message may have come anew, and is not finished with its old copy."""
    book, told = ledger()
    ticket = book.enter(5)
    book.alive = False
    assert book.finish(ticket)
    assert told == []


# Chores ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Give a clock that only the test moves."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(keeper_module, "time", found)
    return found


def worked(chore, clock, seconds, *, step_s=0.05):
    """Let a chore work for some time; return how often it was called, by what `run` has counted."""
    for _ in range(round(seconds / step_s)):
        clock.now += step_s
        chore.work()


def test_a_chore_is_done_as_often_as_it_should(clock):
    calls = []
    chore = Chore(lambda: calls.append(clock.now), every_s=2.0, longest_s=5.0)
    worked(chore, clock, 20)
    assert 9 <= len(calls) <= 10
    assert chore.trouble is None


def test_a_chore_that_fails_is_done_again_later_and_later(clock):
    calls = []

    def fail():
        calls.append(clock.now)
        if len(calls) < 12:
            raise UnreachableError("away")

    chore = Chore(fail, every_s=0.0, longest_s=4.0)
    worked(chore, clock, 10)
    waits = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert waits == sorted(waits)
    assert waits[0] < 0.3
    assert max(waits) < 4.2
    assert chore.trouble == "away"
    worked(chore, clock, 30)
    assert chore.trouble is None
    assert len(calls) > 100  # it is quick again


@pytest.mark.parametrize("kind", [ForbiddenError, TlsError])
def test_what_does_not_pass_is_raised_and_not_again_at_once(clock, kind):
    calls = []

    def fail():
        calls.append(clock.now)
        raise kind("no")

    chore = Chore(fail, every_s=0.0, longest_s=4.0)
    raised = 0
    for _ in range(200):
        clock.now += 0.05
        try:
            chore.work()
        except kind:
            raised += 1
    assert raised == len(calls)
    assert 3 <= raised <= 9
