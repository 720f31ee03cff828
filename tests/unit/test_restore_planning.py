"""What restores, their undo, drills and verifications would do, told without a change."""

import json

import pytest
from backed import Stack
from invoke.program import Program

from ops.errors import UsageError
from ops.tasks.namespace import namespace


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path)


def everything(stack):
    """Return all files below the stack and its server with their bytes and times, but for the log of a run."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for top in (stack.folder, stack.root)
        for path in top.rglob("*")
        if path.is_file() and "logs" not in path.parts
    }


def test_a_plan_says_what_would_come_back_and_changes_nothing(stack):
    shop = stack.environment()
    taken = shop.backup.full().manifest
    before = everything(stack)
    plan = shop.plan_restore("latest")
    (one,) = plan.datastores
    assert (plan.backup, plan.encrypted, plan.stopped) == (taken.id, False, ())
    assert (one.name, one.kind, one.server, one.replaces) == ("uploads", "files", "here", True)
    assert (one.bytes, one.as_of) == (taken.datastores["uploads"].stored, taken.finished_at)
    drill = shop.plan_drill()
    assert (drill.backup, [one.server for one in drill.datastores]) == (taken.id, ["here"])
    assert shop.backup.plan_verify() == (taken.id,)
    assert everything(stack) == before


def test_a_plan_is_refused_as_the_restore_would_be(stack):
    shop = stack.environment()
    with pytest.raises(UsageError, match="no restore to undo"):
        shop.plan_undo_restore()
    with pytest.raises(UsageError, match="no whole backup"):
        shop.plan_drill()
    shop.backup.full()
    with pytest.raises(UsageError, match="holds no db"):
        shop.plan_restore("latest", only=("db",))
    with pytest.raises(UsageError, match="no server elsewhere"):
        shop.plan_drill(server="elsewhere")
    with pytest.raises(UsageError, match="there is no backup 1"):
        shop.backup.plan_verify("1")


def test_an_undo_is_planned_from_the_record(stack):
    shop = stack.environment()
    taken = shop.backup.full().manifest
    (stack.uploads / "a.txt").write_text("overwritten")
    shop.restore("latest", safety=False)
    before = everything(stack)
    plan = shop.plan_undo_restore()
    assert (plan.backup, [one.name for one in plan.datastores]) == (taken.id, ["uploads"])
    assert everything(stack) == before
    assert (stack.uploads / "a.txt").read_text() == "first"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("restore", "--id", "latest"), "would take a safety backup of uploads first"),
        (("restore", "--id", "latest", "--no-safety"), "replaces what is live"),
        (("restore.drill",), "into throw-away places"),
        (("backup.verify", "--level", "3"), "at level 3"),
    ],
)
def test_every_task_has_a_dry_run(stack, words, said, capsys):
    shop = stack.environment()
    shop.backup.full()
    before = everything(stack)
    where = ("--env", "production", "--stack", str(stack.folder), "--dry-run")
    program = Program(namespace=namespace)
    program.run(["opsbook", *words, *where], exit=False)
    assert said in capsys.readouterr().out
    program.run(["opsbook", *words, *where, "--json"], exit=False)
    assert json.loads(capsys.readouterr().out)["data"]
    assert everything(stack) == before
