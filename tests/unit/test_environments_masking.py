"""What leaves a call on a stack."""

from __future__ import annotations

import pytest

from ops.environments.masking import masked
from ops.errors import FailedUnchanged, NeedsPerson


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("inv servers.check, or look", "inv servers.check {}, or look"),
        ("push it (inv build --push)", "push it (inv build {} --push)"),
        ("inv deploy\nor inv stack.up", "inv deploy {}\nor inv stack.up {}"),
        ("inv deploy --env staging --resume", "inv deploy --env staging --resume"),
        ("inv sandbox.up once more", "inv sandbox.up once more"),
        (None, None),
    ],
)
def test_a_command_that_it_tells_to_type_names_the_environment(single, monkeypatch, told, left):
    settings = single.settings("staging")
    monkeypatch.chdir(single.folder)
    with pytest.raises(FailedUnchanged) as caught, masked(settings):
        raise FailedUnchanged("no", next_step=told)
    assert caught.value.next_step == (left.replace("{}", "--env staging") if left else None)


def test_what_nobody_foresaw_names_it_too(single, monkeypatch):
    monkeypatch.chdir(single.folder)
    with pytest.raises(NeedsPerson) as caught, masked(single.settings("staging")):
        raise LookupError("odd")
    assert caught.value.next_step.startswith("inv deploy.status --env staging, then report ")
