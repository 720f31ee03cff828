"""Questions at the terminal: on stderr, and no answer means no."""

import io
import sys
from types import SimpleNamespace

import pytest

from ops.errors import UsageError
from ops.tasks.asking import confirm

SETTINGS = SimpleNamespace(stack="shop", environment="production")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    def typed(text):
        monkeypatch.setattr(sys, "stdin", None if text is None else Terminal(text))

    return typed


def test_the_expected_answer_goes_on(terminal):
    terminal(" production \n")
    confirm(SETTINGS, "Sure?", "production", yes=False)


def test_the_question_stands_on_stderr_since_stdout_may_be_a_file(terminal, capsys):
    terminal("yes\n")
    confirm(SETTINGS, "Sure?", "yes", yes=False)
    assert capsys.readouterr() == ("", "Sure? ")


@pytest.mark.parametrize("typed", ["no\n", "\n", "YES\n", ""], ids=["no", "nothing", "other case", "Ctrl-D"])
def test_another_answer_or_none_ends_it_with_2(terminal, typed):
    terminal(typed)
    with pytest.raises(UsageError, match="not confirmed; nothing was done") as refusal:
        confirm(SETTINGS, "Sure?", "yes", yes=False)
    assert (refusal.value.outcome.stack, refusal.value.outcome.environment) == ("shop", "production")


def test_bytes_that_are_no_text_are_no_answer(monkeypatch):
    keyboard = io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8")
    monkeypatch.setattr(keyboard, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", keyboard)
    with pytest.raises(UsageError, match="not confirmed"):
        confirm(SETTINGS, "Sure?", "yes", yes=False)


@pytest.mark.parametrize("stdin", [None, io.StringIO("yes\n")], ids=["closed", "no terminal"])
def test_where_nobody_can_be_asked_it_ends_with_2_and_names_yes(monkeypatch, stdin):
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(UsageError, match="nothing was done") as refusal:
        confirm(SETTINGS, "Sure?", "yes", yes=False)
    assert "--yes" in refusal.value.next_step


def test_where_the_question_cannot_be_seen_no_answer_counts(terminal, monkeypatch):
    terminal("yes\n")
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(UsageError, match="there is no terminal"):
        confirm(SETTINGS, "Sure?", "yes", yes=False)


def test_yes_asks_nothing(terminal):
    terminal(None)
    confirm(SETTINGS, "Sure?", "yes", yes=True)
