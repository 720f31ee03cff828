"""The demo, chapter by chapter; each checks that its command did what it says."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "sandbox"))

from traffic import Report, Traffic  # noqa: E402  the load generator of the tests

from ops import sandbox  # noqa: E402
from ops.errors import OpsError  # noqa: E402
from ops.tasks.boundary import explain  # noqa: E402

WORK = ROOT / ".demo"
STACK = WORK / "demo"
WHERE = ("--env", "production", "--stack", ".demo/demo")
BUG = (
    "    signal.pthread_sigmask",
    '    if not sys.argv[1:]:\n        print("greeting:", os.environ["GREETING"])\n    signal.pthread_sigmask',
)


def main() -> int:
    """Run all chapters; return 0 when each did what it says."""
    begun = time.monotonic()
    there = sandbox.up(("web1", "web2"), say=print)
    prepare(there)
    targets = [(there.server(name).address, 80) for name in ("web1", "web2")]

    chapter("1. Build and deploy 1.0.0")
    inv("build", *WHERE, "--version", "1.0.0", "--push")
    inv("deploy.plan", *WHERE, "--version", "1.0.0", shown=12)
    inv("deploy", *WHERE, "--version", "1.0.0")
    expect(versions(targets) == {"1.0.0"}, "both servers serve 1.0.0")

    chapter("2. A rolling update to 1.1.0, under load")
    inv("build", *WHERE, "--version", "1.1.0", "--push")
    load = Traffic(targets, rate=100.0, slow_seconds=1.0).start()
    inv("deploy", *WHERE, "--version", "1.1.0")
    rolled = told(load.stop())
    expect(versions(targets) == {"1.1.0"}, "both servers serve 1.1.0")
    expect(rolled.failed == 0 and len(rolled.by_version) == 2, "no request was lost, both versions answered")

    chapter("3. 1.2.0 has a bug: it needs a variable that nobody set")
    source = STACK / "web" / "app.py"
    good = source.read_text()
    source.write_text(good.replace(*BUG))
    expect(source.read_text() != good, "the bug is in the source")
    inv("build", *WHERE, "--version", "1.2.0", "--push")
    load = Traffic(targets, rate=100.0, slow_seconds=1.0).start()
    inv("deploy", *WHERE, "--version", "1.2.0", status=3)
    broken = told(load.stop())
    source.write_text(good)
    expect(versions(targets) == {"1.1.0"}, "both servers are back on 1.1.0")
    expect(broken.failed == 0, "nobody noticed")

    chapter("4. A backup, an accident, a restore")
    kept = notes(targets)
    inv("backup.full", *WHERE)
    accident = 'psql -qAt -U "$POSTGRES_USER" "$POSTGRES_DB" -c "DELETE FROM notes WHERE id % 2 = 0"'
    inv("stack.exec", *WHERE, "--service", "postgres", "--command", accident)
    left = notes(targets)
    expect(left < kept, f"{kept} notes before, {left} after the accident")
    inv("restore", *WHERE, "--id", "latest", "--confirm", "production")
    restored = notes(targets)
    expect(restored == kept, f"{restored} notes are back")

    chapter("5. What serves, and what happened")
    inv("deploy.status", *WHERE)
    inv("deploy.history", *WHERE)
    values = WORK / "environment"
    values.touch(mode=0o600)
    values.write_text(
        "".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables(there).items())
    )
    print(f"\nGo on by yourself: . .demo/environment && .venv/bin/inv deploy.rollback {' '.join(WHERE)}")
    print("                   scripts/demo --clean   removes everything again")
    print(
        f"\nDemo: 1.0.0 deployed; 1.1.0 rolled out under {rolled.total} requests, {rolled.failed} lost; broken 1.2.0 rolled "
        f"back by itself under {broken.total} requests, {broken.failed} lost; {kept - left} of {kept} notes deleted, and all "
        f"restored; {time.monotonic() - begun:.0f} s."
    )
    return 0


def prepare(there: sandbox.Sandbox) -> None:
    """Make the demo's own copy of the stack, and begin with empty servers."""
    # Whatever a test or an earlier demo left there: they are throw-away servers.
    with ThreadPoolExecutor() as pool:
        list(pool.map(sandbox.reset, ("web1", "web2")))
    WORK.mkdir(exist_ok=True)
    shutil.rmtree(STACK, ignore_errors=True)
    shutil.copytree(ROOT / "compose" / "demo", STACK, ignore=shutil.ignore_patterns(".env", ".ops"))
    os.environ.update(variables(there))


def variables(there: sandbox.Sandbox) -> dict[str, str]:
    """Return the demo's values; the database password is made once and kept beside the copy, 0600."""
    kept = WORK / "password"
    if not kept.exists():
        kept.touch(mode=0o600)
        kept.write_text(secrets.token_urlsafe(18))
    return {
        "DB_PASSWORD": kept.read_text(),
        "REGISTRY_USERNAME": there.username,
        "REGISTRY_PASSWORD": there.password,
        "DOCKER_HOST": f"unix://{there.builder_socket}",
    }


INV = str(ROOT / ".venv" / "bin" / "inv")


def chapter(title: str) -> None:
    """Print a heading."""
    print(f"\n== {title}", flush=True)


def inv(*words: str, status: int = 0, shown: int | None = None) -> None:
    """Show a command and run it; end the demo when its exit code is another than expected."""
    print(f"\n$ inv {shlex.join(words)}", flush=True)
    if shown is None:
        done = subprocess.run([INV, *words], cwd=ROOT, check=False)
    else:
        done = subprocess.run([INV, *words], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
        lines = done.stdout.splitlines()
        print("\n".join(lines[:shown]) + f"\n  … {len(lines) - shown} more lines" * (len(lines) > shown))
    expect(done.returncode == status, f"exit code {status}", f"got {done.returncode}")


def told(report: Report) -> Report:
    """Print what came of the load and return it."""
    seen = ", ".join(f"{count} by {version}" for version, count in sorted(report.by_version.items()))
    print(f"Load: {report.total} requests ({report.posts} POST), {report.failed} lost; answered {seen}")
    for failure in report.failures[:5]:
        print(f"  {failure}")
    return report


def versions(targets: list[tuple[str, int]]) -> set[str]:
    """Return the versions that answer on the servers."""
    return {str(asked(target, "/version")["version"]) for target in targets for _ in range(6)}


def notes(targets: list[tuple[str, int]]) -> int:
    """Return how many notes the web service finds in the database."""
    return int(str(asked(targets[0], "/notes")["notes"]))


def asked(target: tuple[str, int], path: str) -> dict[str, object]:
    """Return what a server answers."""
    import urllib.request

    with urllib.request.urlopen(f"http://{target[0]}:{target[1]}{path}", timeout=5) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def expect(holds: bool, what: str, found: str = "") -> None:
    """Go on when it holds, else say what does not and end with 1."""
    if not holds:
        sys.exit(f"Demo: FAILED: expected: {what}{f'; {found}' if found else ''}")
    print(f"  ✓ {what}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OpsError as error:
        print(explain(error), file=sys.stderr)
        sys.exit(error.exit_code)
