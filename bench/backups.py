"""Backups and restores of PostgreSQL and files over SSH to S3, beside the bare pipe, a backup.sh and borgmatic."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rounds import Measured, quiet, rounds, run, table
from ops import sandbox

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "contract"))

from weed import ACCESS, BUCKET, SECRET, Weed  # noqa: E402  the S3 service of the tests

__all__ = ["report", "restore_report"]

SERVER = "db1"
ROUNDS, RESTORE_ROUNDS = 3, 5
GIB = 1 << 30
SIZE = float(os.environ.get("OPS_BENCH_GIB", "2"))  # of PostgreSQL and of files each
BACKUP, SCRIPT, RESTORE = 0.9, 3.0, 0.9  # throughput against the bare pipe, the script, the bare reverse pipe
MEMORY, FLAT, WRITTEN = 150, 1.15, 0.01  # MiB; of 4 GiB against 1 GiB; of what was backed up
OPSBOOK = str(ROOT / ".venv/bin/opsbook")
PYTHON = str(ROOT / ".venv/bin/python")
TOOLS = ROOT / ".bench-venv/bin"

COMPOSE = """\
services:
  postgres:
    image: postgres:16
    pull_policy: missing
    shm_size: 256m
    environment: {POSTGRES_PASSWORD: "${DB_PASSWORD}", POSTGRES_DB: shop}
    command: ["postgres", "-c", "max_wal_size=4GB", "-c", "shared_buffers=256MB", "-c", "autovacuum=off"]
    volumes: ["database:/var/lib/postgresql/data"]
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -q -h 127.0.0.1 -U postgres -d shop"]
      interval: 1s
      retries: 60
volumes:
  database:
"""
# About 1 GiB with its indexes for each two million orders.
TABLES = """\
CREATE TABLE customers AS SELECT n AS id, (array['Ada','Alan','Edsger','Grace','Barbara'])[1 + n % 5] || ' ' || n AS name,
  'customer' || n || '@example.org' AS mail, now() - random() * interval '2000 days' AS since FROM generate_series(1, 300000) n;
CREATE TABLE orders AS SELECT n AS id, (random() * 299999)::int + 1 AS customer, now() - random() * interval '700 days' AS placed,
  (random() * 1e6)::int / 100.0 AS total, (array['new','paid','sent','returned'])[1 + (random() * 3)::int] AS state,
  jsonb_build_object('items', (random() * 9)::int, 'voucher', md5(n::text), 'note',
    repeat((array['leave it at the door ','ring twice ','call before '])[1 + n % 3], 1 + n % 4)) AS details
  FROM generate_series(1, {orders}) n;
CREATE TABLE events AS SELECT n AS id, (random() * {orders})::int AS "order", now() - random() * interval '700 days' AS at,
  (array['/cart','/checkout','/pay','/track'])[1 + (random() * 3)::int] || '?session=' || md5(random()::text) AS path,
  (random() * 2000)::int AS milliseconds FROM generate_series(1, {orders} * 2) n;
ALTER TABLE customers ADD PRIMARY KEY (id);
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE INDEX ON orders (customer);
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
"""
# 1 MiB each in turn: pictures and archives, which nothing packs; documents in base64; lines of a log.
FILES = """\
set -e
mkdir -p {folder} && cd {folder}
n=0
while [ $n -lt {count} ]; do
  d=$(printf 'd%03d' $((n / 64))); mkdir -p $d
  case $((n % 3)) in
    0) head -c 1048576 /dev/urandom ;;
    1) head -c 786432 /dev/urandom | base64 | head -c 1048576 ;;
    2) awk -v s=$n 'BEGIN {{ srand(s); for (i = 0; i < 11000; i++) printf "10.0.%d.%d GET /api/v1/items/%d HTTP/1.1 200 %d %.3f\\n", 255 * rand(), 255 * rand(), 9e6 * rand(), 9e4 * rand(), rand() }}' | head -c 1048576 ;;
  esac > $d/$n
  n=$((n + 1))
done
sync
"""
UPLOAD = """\
import sys, boto3
from boto3.s3.transfer import TransferConfig
c = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
c.upload_fileobj(sys.stdin.buffer, sys.argv[2], sys.argv[3], Config=TransferConfig(multipart_chunksize=16 << 20))
"""
DOWNLOAD = """\
import sys, boto3
c = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
c.download_fileobj(sys.argv[2], sys.argv[3], sys.stdout.buffer)
"""


@dataclass
class Cost:
    """What one run of a command took beside its time: peak memory in MiB, and what both sides wrote to disks, in bytes."""

    memory: float = 0.0
    written: int = 0


class Field:
    """A server with a database and folders, a bucket, and the contenders' commands."""

    def __init__(self, folder: Path, there: sandbox.Sandbox, weed: Weed) -> None:
        self.folder, self.weed = folder, weed
        self.ssh = ["ssh", "-F", str(there.ssh_config), f"{SERVER}.sandbox"]
        self.remote = f"ssh -F {shlex.quote(str(there.ssh_config))} {SERVER}.sandbox"
        self.env: Mapping[str, str] = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "DB_PASSWORD": secrets.token_urlsafe(12),
        }
        self.memory = 0.0  # MiB, of the last task at its peak
        (folder / "compose.yaml").write_text(COMPOSE)
        (folder / "upload.py").write_text(UPLOAD)
        (folder / "download.py").write_text(DOWNLOAD)
        names = ("files", "one", "four")
        stores = "".join(f'[datastores.files.{name}]\npath = "/srv/bench/{name}"\n' for name in names)
        (folder / "ops.toml").write_text(
            textwrap.dedent(
                f"""\
                stack = "bench"
                version = "env:REVISION"
                ssh_config = "{there.ssh_config}"
                [secrets]
                required = ["DB_PASSWORD"]
                [backup.s3]
                bucket = "{BUCKET}"
                endpoint = "{weed.endpoint}"
                region = "us-east-1"
                path_style = true
                [datastores.postgres.db]
                service = "postgres"
                databases = ["shop"]
                [environments.bench.servers.{SERVER}]
                address = "{SERVER}.sandbox"
                """
            )
            + stores
        )

    def there(self, script: str) -> str:
        """Run a script on the server."""
        return run([*self.ssh, script], folder=self.folder, env=self.env)

    def sql(self, script: str, database: str) -> None:
        """Run SQL in a database of the server."""
        psql = f"docker exec -i {self.container} psql -qX -v ON_ERROR_STOP=1 -U postgres {database}"
        run([*self.ssh, psql], folder=self.folder, env=self.env, feed=script)

    def prepare(self) -> None:
        """Deploy the database, and fill it and the folders."""
        self.opsbook("deploy", "--quiet")
        self.container = self.there("docker ps -q --filter label=com.docker.compose.service=postgres").strip()
        print(f"Filling a database and folders with {SIZE:g} GiB each.", flush=True)
        self.sql(TABLES.format(orders=int(SIZE * 2_000_000)), "shop")
        count = int(SIZE * 1024)
        self.there(FILES.format(folder="/srv/bench/files", count=count))

    def prepare_sizes(self) -> None:
        """Make the folders on which memory is measured: half of the files, and twice as much."""
        count = int(SIZE * 1024)
        half = f"cd /srv/bench && mkdir one four && for d in $(ls files | head -n {count // 128}); do cp -r files/$d one/; done"
        self.there(f"{half}; for n in 1 2 3 4; do cp -r one four/$n; done; sync")

    def settle(self) -> None:
        """Off the clock: what a contender left goes, and the rest of what it wrote to the disk, before the next one begins."""
        left = "SELECT format('DROP DATABASE %I', datname) FROM pg_database WHERE datname ~ '^(bare|ops_old_.*)$' \\gexec\nCHECKPOINT;"
        self.sql(left, "postgres")
        self.there("rm -rf /srv/bench/bare /srv/bench/*.ops-old-*; sync")

    def size(self) -> float:
        """Return the database's size in GiB."""
        asked = "SELECT pg_database_size('shop')"
        return (
            int(self.there(f"docker exec {self.container} psql -AtU postgres -c {shlex.quote(asked)}")) / GIB
        )

    def opsbook(self, task: str, *words: str) -> str:
        """Run a task, and note how much memory it took."""
        argv = [OPSBOOK, task, "--env", "bench", *words]
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(
                argv, cwd=self.folder, env={**self.env, "REVISION": "v1"}, stdout=out, stderr=out
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            said = out.read().decode()
        if process.returncode:
            raise SystemExit(f"bench: {' '.join(argv)} ended with {process.returncode}\n{said}")
        self.memory = used.ru_maxrss / 1024
        return said

    def pipe(self, command: str) -> None:
        """Run a pipe in a shell; any of its parts that fails ends the bench."""
        run(["bash", "-c", f"set -euo pipefail; {command}"], folder=self.folder, env=self.env)

    def up(self, key: str) -> str:
        """Return the upload that all but Opsbook use."""
        return f"{PYTHON} upload.py {self.weed.endpoint} {BUCKET} {key}"

    def down(self, key: str) -> str:
        """Return the download that all but Opsbook use."""
        return f"{PYTHON} download.py {self.weed.endpoint} {BUCKET} {key}"

    def clean(self) -> None:
        """Empty the bucket, off the clock. It goes and comes again, since what is deleted in it keeps its memory for long."""
        import boto3

        bucket = boto3.resource(
            "s3", endpoint_url=self.weed.endpoint, region_name="us-east-1",
            aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
        ).Bucket(BUCKET)  # fmt: skip
        bucket.objects.all().delete()
        bucket.delete()
        bucket.create()


@contextmanager
def field() -> Iterator[Field]:
    """The field, with a server that is made empty before and after. The bucket lies in memory: disks are counted."""
    there = sandbox.up((SERVER,), say=print)
    sandbox.reset(SERVER)
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as bucket,
    ):
        weed = Weed(Path(bucket), volumes=60 + int(SIZE * 60))
        try:
            found = Field(Path(folder), there, weed)
            found.prepare()
            yield found
        finally:
            weed.stop()
    sandbox.reset(SERVER)


def report() -> tuple[list[str], bool]:
    """Return the section on backups, and whether the limits hold."""
    with field() as found:
        container = found.container
        dump = f"docker exec {container} pg_dump -U postgres -Fc -Z zstd:3 shop"
        parts: dict[str, tuple[dict[str, Callable[[int], None]], Callable[[int], None]]] = {
            "PostgreSQL": (
                {
                    "bare pipe: `ssh docker exec pg_dump -Fc -Z zstd:3` into the upload": lambda n: (
                        found.pipe(f"{found.remote} {shlex.quote(dump)} | {found.up('pipe')}")
                    ),
                    "Opsbook": lambda n: quiet(found.opsbook("backup.full", "--only", "db", "--quiet")),
                },
                lambda n: found.pipe(
                    f"{found.remote} {shlex.quote(f'set -e; docker exec {container} pg_dump -U postgres shop | gzip > /srv/bench/db.sql.gz; md5sum /srv/bench/db.sql.gz')}"
                    f"; {found.remote} cat /srv/bench/db.sql.gz | {found.up('script')}"
                ),
            ),
            "files": (
                {
                    "bare pipe: `ssh tar | zstd -3 -T0` into the upload": lambda n: found.pipe(
                        f"{found.remote} 'tar -C /srv/bench/files -cf - . | zstd -q -3 -T0' | {found.up('pipe')}"
                    ),
                    "Opsbook": lambda n: quiet(found.opsbook("backup.full", "--only", "files", "--quiet")),
                },
                lambda n: found.pipe(
                    f"{found.remote} 'set -e; tar -czf /srv/bench/files.tar.gz -C /srv/bench files; md5sum /srv/bench/files.tar.gz'"
                    f"; {found.remote} cat /srv/bench/files.tar.gz | {found.up('script')}"
                ),
            ),
        }
        lines = [
            f"{found.size():.1f} GiB of PostgreSQL 16 in three tables and {SIZE:g} GiB of files, over SSH from one server to an S3 service "
            "(SeaweedFS, in memory) on the machine that takes the backup; all of them share its processors. "
            f"{ROUNDS} alternating rounds behind one that does not count; backup.sh is that of the source document, one round: "
            "pg_dump or tar through gzip to the server's disk, md5sum, and the same upload as the bare pipe's. Limits for Opsbook's "
            f"throughput: {BACKUP} of the bare pipe's, for each of the two; {SCRIPT:g} times backup.sh's, which takes both in one run.",
        ]
        holds, scripted, taken = True, 0.0, 0.0
        for what, (contenders, script) in parts.items():
            measured = rounds(contenders, ROUNDS, check=lambda name, number: found.clean())
            slow = rounds({"backup.sh": script}, 1, warmup=0)
            found.clean()
            base, ours = (one.median for one in measured)
            lines += ["", f"Of {what}:", "", *table([*measured, *slow], measured[0].name)]
            lines += ["", _throughput(base / ours, "the bare pipe's", slow[0].median / ours)]
            holds = holds and base / ours >= BACKUP
            scripted, taken = scripted + slow[0].median, taken + ours
        holds = holds and scripted / taken >= SCRIPT
        lines += ["", f"Both together: {scripted / taken:.1f} times backup.sh's throughput."]
        costs = _costs(found)
        lines += ["", *_cost_table(costs)]
        holds = holds and costs["four"].memory <= min(MEMORY, costs["one"].memory * FLAT)
        holds = holds and all(costs[name].memory <= MEMORY for name in ("db", "files"))
        holds = holds and all(costs[name].written <= SIZE * GIB * WRITTEN for name in ("db", "files"))
        lines += ["", *_borgmatic(found)]
    return lines, holds


def restore_report() -> tuple[list[str], bool]:
    """Return the section on restores, and whether the limits hold."""
    holds = True
    with field() as found:
        container = found.container
        found.pipe(
            f"{found.remote} {shlex.quote(f'docker exec {container} pg_dump -U postgres -Fc -Z zstd:3 shop')} | {found.up('pipe/db')}"
        )
        found.pipe(
            f"{found.remote} 'tar -C /srv/bench/files -cf - . | zstd -q -3 -T0' | {found.up('pipe/files')}"
        )
        ids = {}
        for name in ("db", "files"):
            ids[name] = json.loads(found.opsbook("backup.full", "--only", name, "--json"))["data"]["id"]
        made = f"docker exec {container} createdb -U postgres -T template0 bare"
        into = f"docker exec -i {container} pg_restore -U postgres --exit-on-error -d bare"
        bare = {
            "PostgreSQL": f"{found.down('pipe/db')} | {found.remote} {shlex.quote(f'{made} && {into}')}",
            "files": f"{found.down('pipe/files')} | {found.remote} "
            "'mkdir /srv/bench/bare && zstd -q -d | tar -C /srv/bench/bare -xf -'",
        }
        lines = [
            f"The same {found.size():.1f} GiB of PostgreSQL and {SIZE:g} GiB of files back from the bucket, beside what is live. Opsbook also checks "
            "all hashes, counts all rows and files, and swaps; without a safety backup, which is another backup. "
            "The pipe's tar is as it comes; PostgreSQL runs without autovacuum, which would come into some rounds and not into others. "
            f"{RESTORE_ROUNDS} alternating rounds behind one that does not count, each from a disk at rest; what the one before left is removed "
            f"in nobody's time. Limit for its throughput: {RESTORE} of the bare pipe's.",
        ]
        for (what, pipe), name in zip(bare.items(), ids, strict=True):
            contenders: dict[str, Callable[[int], None]] = {
                "bare pipe: the download into `ssh`, "
                + ("`pg_restore`" if name == "db" else "`zstd -d \\| tar -x`"): lambda n, pipe=pipe: (
                    found.pipe(pipe)
                ),  # type: ignore[misc]
                "Opsbook": lambda n, name=name: quiet(  # type: ignore[misc]
                    found.opsbook(
                        "restore", "--id", ids[name], "--no-safety", "--confirm", "bench", "--quiet"
                    )
                ),
            }
            found.settle()
            measured = rounds(contenders, RESTORE_ROUNDS, check=lambda name, number: found.settle())
            base, ours = (one.median for one in measured)
            lines += ["", f"Of {what}:", "", *table(measured, measured[0].name)]
            lines += ["", _throughput(base / ours, "the bare pipe's", None)]
            holds = holds and base / ours >= RESTORE
    return lines, holds


def _throughput(of_pipe: float, whose: str, of_script: float | None) -> str:
    said = f"Opsbook's throughput is {of_pipe:.2f} of {whose}"
    return said + (f" and {of_script:.1f} times backup.sh's." if of_script is not None else ".")


def _costs(found: Field) -> dict[str, Cost]:
    """Return what a backup of each costs, off the clock: to count what is written, all that is under way is waited for."""
    found.prepare_sizes()
    costs = {}
    for name in ("db", "files", "one", "four"):
        before = _written()
        found.opsbook("backup.full", "--only", name, "--quiet")
        costs[name] = Cost(found.memory, _written() - before)
        found.clean()
    return costs


def _cost_table(costs: Mapping[str, Cost]) -> list[str]:
    names = {
        "db": "PostgreSQL",
        "files": "files",
        "one": f"{SIZE / 2:g} GiB of files",
        "four": f"{SIZE * 2:g} GiB of files",
    }
    rows = [
        f"Limits: {MEMORY} MiB of memory at most, and no more for four times the data (within {FLAT - 1:.0%}); nothing of a backup on a "
        f"disk of either side (what all processes of both wrote meanwhile, at most {WRITTEN:.0%}).",
        "",
        "| backup of | peak memory of Opsbook | written to disks, both sides |",
        "|---|---|---|",
    ]
    return rows + [
        f"| {what} | {costs[name].memory:.0f} MiB | {costs[name].written / 1e6:.1f} MB |"
        for name, what in names.items()
    ]


def _borgmatic(found: Field) -> list[str]:
    """Return the table beside borgmatic, which dumps the same database into a repository on this machine."""
    folder = found.folder / "borg"
    folder.mkdir()
    inside = f"{found.remote} docker exec -i {found.container}"
    (folder / "config.yaml").write_text(
        textwrap.dedent(
            f"""\
            repositories: [{{path: {folder}/repository}}]
            compression: zstd,3
            unknown_unencrypted_repo_access_is_ok: true
            user_runtime_directory: {folder}
            borg_base_directory: {folder}
            postgresql_databases:
                - name: shop
                  username: postgres
                  format: custom
                  compression: none
                  pg_dump_command: {inside} pg_dump
                  psql_command: {inside} psql
            """
        )
    )
    borgmatic = [str(TOOLS / "borgmatic"), "--config", str(folder / "config.yaml")]
    run([*borgmatic, "repo-create", "--encryption", "none"], folder=folder, env=found.env)
    local = found.folder / "local.toml"
    text = (found.folder / "ops.toml").read_text()
    kept = text[text.index("[backup.s3]") : text.index("[datastores")]
    local.write_text(text.replace(kept, f'[backup.local]\npath = "{found.folder}/kept"\n'))
    (found.folder / "ops.toml").rename(found.folder / "s3.toml")
    local.rename(found.folder / "ops.toml")
    measured: list[Measured] = rounds(
        {
            "Opsbook to a folder": lambda n: quiet(
                found.opsbook("backup.full", "--only", "db", "--state-host", SERVER, "--quiet")
            ),
            "borgmatic to a repository, first archive": lambda n: quiet(
                run([*borgmatic, "create"], folder=folder, env=found.env)
            ),
        },
        1,
        warmup=0,
    )
    sizes = [_size(found.folder / "kept"), _size(folder / "repository")]
    again = rounds(
        {
            "borgmatic, second archive of the same data": lambda n: quiet(
                run([*borgmatic, "create"], folder=folder, env=found.env)
            )
        },
        1,
        warmup=0,
    )
    sizes.append(_size(folder / "repository") - sizes[1])
    (found.folder / "s3.toml").rename(found.folder / "ops.toml")
    base = measured[0].median
    rows = [
        "Beside borgmatic, both from the same server's PostgreSQL to a disk of this machine, zstd level 3, not encrypted. "
        "borgmatic finds what it has already; Opsbook streams a dump that stands by itself. No limit.",
        "",
        "| what | time | ratio | stored |",
        "|---|---|---|---|",
    ]
    for one, size in zip([*measured, *again], sizes, strict=True):
        rows.append(
            f"| {one.name} | {one.median:.1f} s | {one.median / base:.2f} | {size / 1e6:.0f} MB more |"
        )
    return rows


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _written() -> int:
    """Return how many bytes this machine has written to its disks so far, the servers' containers among it."""
    # What is under way is written first. It is counted before and behind.
    os.sync()
    total = 0
    for line in Path("/proc/diskstats").read_text().splitlines():
        words = line.split()
        # Whole disks alone: a partition's are its disk's, too.
        if Path(f"/sys/block/{words[2]}/device").exists():
            total += int(words[9]) * 512
    return total
