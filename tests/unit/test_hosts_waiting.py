"""Work that cannot be interrupted does not hold up a cancellation, and what it brings later is put away."""

from __future__ import annotations

import threading

import pytest

from ops.hosts import Cancellation, Cancelled
from ops.hosts.waiting import acquire, waited


def test_the_result_comes_back():
    assert waited(lambda: 7, Cancellation(), lambda _: None) == 7


def test_an_error_comes_back_as_it_is():
    with pytest.raises(ZeroDivisionError):
        waited(lambda: 1 // 0, Cancellation(), lambda _: None)


def test_what_comes_after_a_cancellation_is_put_away():
    cancellation, finish, put_away = Cancellation(), threading.Event(), threading.Event()

    def work():
        cancellation.cancel()
        finish.wait(10)
        return "late"

    with pytest.raises(Cancelled):
        waited(work, cancellation, lambda found: put_away.set() if found == "late" else None)
    finish.set()
    assert put_away.wait(10)


def test_nothing_begins_once_it_is_cancelled():
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        waited(lambda: pytest.fail("it began"), cancellation, lambda _: None)


def test_work_that_does_not_notice_the_end_of_its_connection_is_left():
    finish, put_away = threading.Event(), threading.Event()

    def work():
        finish.wait(60)
        return "late"

    with pytest.raises(EOFError):
        waited(work, Cancellation(), lambda found: put_away.set(), lambda: False)
    finish.set()
    assert put_away.wait(60)


def test_waiting_for_a_slot_ends_with_the_cancellation():
    slot, cancellation = threading.Semaphore(1), Cancellation()
    acquire(slot, cancellation)
    threading.Timer(0.1, cancellation.cancel).start()
    with pytest.raises(Cancelled):
        acquire(slot, cancellation)
