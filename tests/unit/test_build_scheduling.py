"""Builds in the order that they need, two at once."""

import threading

import pytest

from ops.build.scheduling import in_order
from ops.errors import ConfigError, FailedUnchanged


def abandoned():
    raise AssertionError("nothing was to be abandoned")


def test_what_others_need_comes_first_and_every_result_comes_back():
    order = []
    needs = {"web": ("base",), "base": (), "worker": ("web",)}
    done, failed = in_order(needs, lambda key: order.append(key) or key.upper(), abandoned)
    assert order == ["base", "web", "worker"]
    assert done == {"base": "BASE", "web": "WEB", "worker": "WORKER"}
    assert failed == {}


def test_two_run_at_once_and_never_three():
    both, running, most = threading.Barrier(2, timeout=10), [], []

    def work(key):
        running.append(key)
        most.append(len(running))
        both.wait()
        running.remove(key)

    in_order(dict.fromkeys("abcd", ()), work, abandoned)
    assert max(most) == 2


def test_after_a_failure_nothing_more_begins(monkeypatch):
    monkeypatch.setattr("ops.build.scheduling.AT_ONCE", 1)
    begun = []

    def work(key):
        begun.append(key)
        if key == "b":
            raise FailedUnchanged("broken")

    done, failed = in_order({"a": (), "b": (), "c": (), "d": ("a",)}, work, abandoned)
    assert begun == ["a", "b"]
    assert (list(done), list(failed)) == (["a"], ["b"])


def test_what_runs_beside_a_failure_comes_to_its_end():
    both = threading.Barrier(2, timeout=10)

    def work(key):
        both.wait()
        if key == "a":
            raise FailedUnchanged("broken")
        return key

    done, failed = in_order({"a": (), "b": ()}, work, abandoned)
    assert done == {"b": "b"}
    assert str(failed["a"]) == "broken"


def test_anything_else_that_is_raised_ends_what_runs():
    ended = threading.Event()

    def work(key):
        if key == "a":
            raise KeyboardInterrupt
        assert ended.wait(10)

    with pytest.raises(KeyboardInterrupt):
        in_order({"a": (), "b": ()}, work, ended.set)


def test_a_circle_is_refused():
    with pytest.raises(ConfigError, match="circle"):
        in_order({"a": ("b",), "b": ("a",)}, abandoned, abandoned)
