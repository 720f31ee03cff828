"""A server's connection, as far as it can be judged without one."""

from types import SimpleNamespace

import pytest

from ops.errors import Unreachable
from ops.hosts import Cancellation, link


@pytest.fixture
def dialled(monkeypatch):
    """The connections that are made, in order; what is no connection is raised."""
    made, answers = [], []

    def dial(*arguments):
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        made.append(found)
        return found

    monkeypatch.setattr(link, "dial", dial)
    return SimpleNamespace(made=made, answers=answers)


def test_a_connection_that_was_begun_and_went_before_its_first_use_is_made_anew(dialled):
    """As it may while a person is asked."""
    dialled.answers += [SimpleNamespace(active=False), SimpleNamespace(active=True)]
    server = link.Link("web1", lambda: ())
    server.begin()
    assert server.chain(Cancellation()) is dialled.made[1]
    assert server.chain(Cancellation()) is dialled.made[1]


def test_what_the_beginning_met_is_raised_by_the_first_use(dialled):
    dialled.answers += [Unreachable("no answer"), SimpleNamespace(active=True)]
    server = link.Link("web1", lambda: ())
    server.begin()
    with pytest.raises(Unreachable, match="no answer"):
        server.chain(Cancellation())
    assert server.chain(Cancellation()) is dialled.made[0]
