"""Signals while a run goes on."""

import os
import signal
import threading

import pytest

from ops.runs.interruption import Interruption
from ops.runs.phases import Phase


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_cancels_and_is_remembered(number):
    interruption = Interruption()
    with interruption.listening():
        send(number)
    assert (interruption.number, interruption.twice) == (number, False)
    assert interruption.cancellation.cancelled


def test_the_second_signal_is_noticed_and_the_first_is_the_one_that_counts():
    interruption = Interruption()
    with interruption.listening():
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert (interruption.number, interruption.twice) == (signal.SIGTERM, True)


def test_a_terminal_that_closes_may_say_so_twice():
    interruption = Interruption()
    with interruption.listening():
        send(signal.SIGHUP)
        send(signal.SIGHUP)
    assert (interruption.number, interruption.twice) == (signal.SIGHUP, False)


def test_under_nohup_a_closed_terminal_changes_nothing():
    interruption = Interruption()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.listening():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert interruption.number is None


def test_the_way_back_has_a_cancellation_of_its_own():
    interruption = Interruption()
    with interruption.listening():
        send()
        assert not interruption.fresh().cancelled
        send()
        assert interruption.cancellation.cancelled


def test_a_second_signal_before_the_way_back_begins_ends_it_as_well():
    interruption = Interruption()
    with interruption.listening():
        send()
        send()
        assert interruption.fresh().cancelled


def test_a_deferred_signal_comes_through_at_the_end_of_the_block():
    interruption = Interruption()
    with interruption.listening():
        with interruption.deferred():
            send()
            assert not interruption.cancellation.cancelled
        assert interruption.cancellation.cancelled


def test_a_second_signal_is_not_deferred():
    interruption = Interruption()
    with interruption.listening(), interruption.deferred():
        send()
        send()
        assert interruption.cancellation.cancelled


def test_without_a_signal_deferring_changes_nothing():
    interruption = Interruption()
    with interruption.deferred():
        pass
    assert not interruption.cancellation.cancelled


def test_the_handlers_from_before_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption().listening():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_is_changed():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def elsewhere():
        with Interruption().listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_services_change_from_the_switch_on():
    assert [phase for phase in Phase if phase.changes_services] == [Phase.SWITCH, Phase.SMOKE, Phase.COMMIT]
