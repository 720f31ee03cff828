"""What people read of a status."""

from __future__ import annotations

import pytest

from ops.deploy.status import ServerStatus, ServiceStatus, Status
from ops.runs.lock import Holder
from ops.tasks.showing import status_text

WHOLE = ServiceStatus("web", 2, 2, "web:1", "healthy")
HALF = ServiceStatus("web", 1, 2, "web:1", "healthy")


def told(*servers, holder=None, stale=False):
    named = {f"web{number}": server for number, server in enumerate(servers, 1)}
    found = Status("shop", "staging", named, holder, 90.0 if holder else None, stale)
    return status_text(found, "--env staging").splitlines()


def server(release="r1", *services, error=None):
    return ServerStatus(release, "1", None, services or (WHOLE,), error)


def test_where_all_is_well_nothing_is_to_be_typed():
    assert told(server(), server())[-1] == "All servers agree."


@pytest.mark.parametrize(
    ("servers", "step"),
    [
        ((ServerStatus(error="no route"), server()), "inv servers.check --env staging"),
        ((ServerStatus(),), "inv deploy --env staging"),
        ((server("r1"), server("r2")), "inv deploy.history --env staging"),
        ((server("r1", HALF),), "inv stack.up --env staging"),
    ],
)
def test_what_is_off_has_a_next_step(servers, step):
    *_, off, following = told(*servers)
    assert off == "Not as it should be: see above."
    assert following.startswith(f"Next: {step}")


@pytest.mark.parametrize(
    ("action", "steps"),
    [
        ("deploy", ["inv deploy --env staging --resume", "inv deploy.rollback --env staging"]),
        (
            "deploy.rollback",
            ["inv deploy.rollback --env staging", "inv deploy --env staging --resume --version"],
        ),
        ("stack.restart", ["inv deploy.unlock --env staging"]),
    ],
)
def test_a_dead_run_is_told_with_the_ways_on_from_it(action, steps):
    lines = told(server(), holder=Holder("run-1", action, "ann@desk", "now"), stale=True)
    at = next(number for number, line in enumerate(lines) if line.startswith("Next: "))
    for line, step in zip(lines[at:], steps, strict=False):
        assert line.removeprefix("Next:").strip().startswith(step)
