"""What may be committed: the lowest position that is not finished, whatever the order of finishing."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuncius.streams.delivery import Ledger


def ledger(position=None):
    return Ledger("night", 0, lambda *_: None, position)


class Naive:
    """The same, the simplest way: all that was entered, in a list."""

    def __init__(self, position):
        self.position = position
        self.entered = []

    def enter(self, offset):
        self.entered.append([offset, False])

    def finish(self, index):
        self.entered[index][1] = True

    @property
    def committable(self):
        unfinished = [offset for offset, done in self.entered if not done]
        if unfinished:
            return min(unfinished)
        return max((offset for offset, _ in self.entered), default=self.position - 1) + 1


@given(
    position=st.integers(0, 50),
    # An offset grows by more than one where the broker has removed messages, by nothing where one message has several
    # alerts.
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("enter"), st.integers(0, 4)), st.tuples(st.just("finish"), st.integers(0, 99))
        ),
        max_size=60,
    ),
)
def test_the_lowest_unfinished_is_what_a_naive_model_says(position, steps):
    real, naive = ledger(position), Naive(position)
    tickets = []
    offset = position
    for kind, number in steps:
        if kind == "enter":
            offset = max(position, offset + number) if tickets else position + number
            tickets.append(real.enter(offset))
            naive.enter(offset)
        elif tickets:
            index = number % len(tickets)
            was_done = naive.entered[index][1]
            assert real.finish(tickets[index]) is not was_done
            naive.finish(index)
        assert real.committable == naive.committable


@given(order=st.permutations(range(12)))
def test_a_position_never_goes_back_and_never_passes_an_unfinished_message(order):
    book = ledger(0)
    tickets = [book.enter(offset) for offset in range(12)]
    finished = set()
    last = book.committable
    for offset in order:
        book.finish(tickets[offset])
        finished.add(offset)
        assert book.committable >= last
        assert set(range(book.committable)) <= finished
        last = book.committable
    assert last == 12


def test_nothing_is_known_before_the_first_message_without_a_position():
    assert ledger().committable is None


def test_the_position_of_the_assignment_may_be_committed_before_the_first_message():
    assert ledger(7).committable == 7


def test_a_message_with_several_alerts_is_finished_when_all_of_them_are():
    book = ledger(4)
    first, second = book.enter(4), book.enter(4)
    book.finish(second)
    assert book.committable == 4
    book.finish(first)
    assert book.committable == 5


def test_finishing_twice_changes_nothing():
    book = ledger(0)
    ticket = book.enter(0)
    assert book.finish(ticket) is True
    assert book.finish(ticket) is False
    assert book.committable == 1


def test_gaps_in_the_offsets_are_passed_over():
    book = ledger(0)
    tickets = [book.enter(offset) for offset in (3, 8, 20)]
    assert book.committable == 3
    book.finish(tickets[1])
    book.finish(tickets[0])
    assert book.committable == 20
    book.finish(tickets[2])
    assert book.committable == 21


def test_messages_are_entered_by_one_thread_while_others_finish_them():
    """The pump enters while callers finish, which the engine does under its lock."""
    book, lock = ledger(0), threading.Lock()
    tickets = []
    seen = []

    def finish(start):
        index = start
        while index < 4000:
            if index < len(tickets):
                with lock:
                    book.finish(tickets[index])
                    seen.append(book.committable)
                index += 2

    threads = [threading.Thread(target=finish, args=(start,)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for offset in range(4000):
        tickets.append(book.enter(offset))
    for thread in threads:
        thread.join(30)
    assert seen == sorted(seen)
    assert book.committable == 4000


def test_damage_is_told_to_who_keeps_the_ledger():
    told = []
    book = Ledger("night", 0, lambda alert, error: told.append((alert, error)))
    ticket = book.enter(0)
    ticket.damaged("alert", "error")
    assert told == [("alert", "error")]
    assert not ticket.done


@pytest.mark.parametrize("count", [1, 100])
def test_what_is_finished_is_not_kept(count):
    book = ledger(0)
    for ticket in [book.enter(offset) for offset in range(count)]:
        book.finish(ticket)
    assert len(book._open) == 0
