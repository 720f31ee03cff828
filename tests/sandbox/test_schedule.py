"""A schedule on a real server: Opsbook installed there by pip, a line in its crontab, and what that line comes to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fleets import emptied, on, own_name
from stacks import ROOT, Stack

from ops import sandbox as boxes

pytestmark = pytest.mark.parity("B16")

TOML = """
stack = "paper"
ssh_config = "{ssh_config}"
[backup]
recipients = ["age1fllnejxjz8rqhzlhfzksk4gffuhvnxv3dvstx2dy26q4pkpjr3cq2p6d0h"]
[backup.local]
path = "/srv/backups"
[datastores.files.letters]
path = "letters"
[environments.staging.servers.web1]
address = "{address}"
user = "{user}"
"""
HERE = "/opt/paper/staging"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """This very checkout as a file that a server can install."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
        timeout=300,
    )
    (found,) = folder.glob("*.whl")
    return str(found)


@pytest.fixture
def paper(sandbox: boxes.Sandbox, tmp_path: Path) -> Callable[[str], Stack]:
    """Make a stack of nothing but a folder on the server, for a user of it."""
    emptied("web1")

    def make(user: str) -> Stack:
        on("web1", f"mkdir -p {HERE}/shared/letters /srv/backups && echo dear > {HERE}/shared/letters/a")
        on("web1", f"chown -R {user} /opt/paper /srv/backups")
        text = TOML.format(ssh_config=sandbox.ssh_config, address=f"{own_name('web1')}.sandbox", user=user)
        (tmp_path / "ops.toml").write_text(text)
        return Stack(tmp_path, "staging")

    return make


def test_a_server_backs_itself_up_by_a_line_in_its_crontab(paper: Callable[[str], Stack], wheel: str) -> None:
    """Put there, shown, run as cron runs it, taken away; other lines stay. All by a user without root."""
    stack = paper("docker-user")
    on("web1", "printf 'MAILTO=me\\n1 2 3 4 *  theirs\\n' | crontab -u docker-user -")
    install = ("backup.schedule", "--on", "web1", "--install", "--wheel", wheel)
    first = stack.run(*install, status=None)
    if first.returncode:  # a server as it is delivered, without what makes environments of Python
        assert "python3-venv" in first.stderr
        on("web1", "apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null 2>&1")
        stack.run(*install)
    crontab = on("web1", "crontab -l -u docker-user")
    others, _, block = crontab.partition("# opsbook paper/staging backup.full: begin")
    assert others == "MAILTO=me\n1 2 3 4 *  theirs\n"
    line = block.splitlines()[1]
    assert line.startswith("0 2 * * * ")
    shown = stack.run("backup.schedule", "--on", "web1").stdout
    assert line in shown
    # As cron does: the user's own shell variables are none, and \% is %.
    command = line.removeprefix("0 2 * * * ").replace("\\%", "%").replace("'", "'\\''")
    on("web1", f"su docker-user -s /bin/sh -c 'exec env -i HOME=/home/docker-user sh -c \"$0\"' '{command}'")
    python = f"{HERE}/schedule/venv/bin/python -P -m ops.tasks"
    listed = on(
        "web1", f"su docker-user -c '{python} backup.list --env staging --stack {HERE}/schedule/stack'"
    )
    assert "letters" in listed
    assert on("web1", f"cat {HERE}/schedule/stack/.ops/schedule.log") == ""
    journal = on("web1", f"cat {HERE}/journal.jsonl")
    assert '"backup.full"' in journal
    assert '"done"' in journal
    assert (
        on("web1", f"stat -c %a {HERE}/schedule/stack/ops.toml {HERE}/schedule/stack/.env.staging")
        == "600\n600\n"
    )
    stack.run("backup.schedule", "--on", "web1", "--remove")
    assert on("web1", "crontab -l -u docker-user") == others
    on("web1", f"[ ! -e {HERE}/schedule ]")
