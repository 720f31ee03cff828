"""A chain of MongoDB's, from the full backup to a moment, with tools that keep one number where a server would be."""

import os
import sys
from datetime import UTC, datetime

import pytest
from backed import Stack

from ops.archive.manifest import Damaged
from ops.errors import FailedUnchanged

pytestmark = [pytest.mark.parity("B2"), pytest.mark.parity("B12")]

TABLE = '[datastores.mongodb.documents]\nservice = "mongodb"\nserver = "here"\nincrements = true\n'
DOCKER = """\
case $1 in
ps) case "$*" in *opsbook.restore*) ;; *) echo c1 ;; esac ;;
inspect) printf 'container\\tc1\\nimage\\tmongo:7\\n' ;;
exec)
  shift; while :; do case $1 in -i) shift ;; -e) shift 2 ;; *) break ;; esac; done
  shift
  case $* in df*) printf 'Filesystem\\nx 1 1 99999999 1%% /\\n'; exit ;; *ping*) exit ;; esac
  exec sh -c "$(printf '%s' "$3" | sed 's,/opsbook/,{folder}/,g')" ;;
run|rm) echo "$*" >> {folder}/containers ;;
esac
"""
# What is live is a number of orders; the throw-away server has what the dump had, and what a replay adds to it.
MONGOSH = """\
#!{python}
import json, os, re, sys
script, folder = sys.argv[-1], "{folder}"
def read(name, other="0"):
    try: return open(f"{{folder}}/{{name}}").read()
    except FileNotFoundError: return other
def const(name): return json.loads(re.search(rf"const {{name}} = (.*);$", script, re.M)[1])
ts = {{"t": 100 + int(read("clock")), "i": 1}}
if "router" in script:
    found = {{"shop": {{"places": json.loads(read("places", "[]")), "timeseries": []}}}}
    print(f"server\\t7.0.14\\nrouter\\t\\ndatabases\\t{{json.dumps(found)}}")
    print("oplog\\t" + json.dumps({{"set": "rs0", "id": "ab", "oldest": {{"t": 1, "i": 1}}}}))
elif "startOpTime" in script: print("ops-progress " + json.dumps({{"start": ts, "size": 10}}))
elif "getIndexes" in script: print('{{"db":"shop"}}')
elif "query" in script:
    from datetime import datetime, timezone
    print("query {{}}")
    print("ops-progress " + json.dumps({{"end": ts, "term": "1", "until": datetime.now(timezone.utc).isoformat()}}))
elif "writeFileSync" in script:
    for part, db in const("dumps"): print("ops-count " + json.dumps([part, "orders", int(read("dumped"))]))
    for number, part in enumerate(const("slices")): print("ops-count " + json.dumps([part, "oplog.rs", number + int(read("lost"))]))
    print("limit 7:1")
elif "timeseries" in script or "countDocuments" in script:
    print("ops-count " + json.dumps(["shop", "orders", int(read("replayed"))]))
elif "databases.forEach(swap)" in script:
    open(f"{{folder}}/places", "w").write('["ops_old_20260101t000000zabcd"]')
"""
MONGODUMP = """\
case "$*" in
--version) echo 'mongodump version: 100.9.4' ;;
*oplog.rs*) printf '\\tdumped %s documents\\n' "$(cat {folder}/slices 2>/dev/null || echo 0)" >&2 ;;
*) echo archive; printf '2026\\tdone dumping `shop.orders` (5 documents)\\n' >&2 ;;
esac
"""
MONGORESTORE = """\
case "$*" in
*oplogReplay*) echo 7 > {folder}/replayed; echo "$*" > {folder}/replay ;;
*) cat >/dev/null; echo 5 > {folder}/dumped ;;
esac
"""


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """A stack whose MongoDB is a folder of files."""
    found = Stack(tmp_path)
    found.toml = found.toml.split("[datastores")[0] + TABLE
    (found.folder / "compose.yaml").write_text("services:\n  mongodb:\n    image: mongo:7\n")
    found.server = tmp_path / "server"
    found.server.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    shell = {"docker": DOCKER, "mongodump": MONGODUMP, "mongorestore": MONGORESTORE}
    scripts = {
        name: "#!/bin/sh\n" + text.replace("{folder}", str(found.server)) for name, text in shell.items()
    }
    scripts["mongosh"] = MONGOSH.format(python=sys.executable, folder=found.server)
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return found


def chained(stack):
    """Return the stack with a full backup and an increment of one entry, and a moment between the two."""
    shop = stack.environment()
    full = shop.backup.full().manifest
    moment = datetime.now(UTC).isoformat()
    (stack.server / "clock").write_text("1")
    (stack.server / "slices").write_text("1")
    increment = shop.backup.incremental().manifest
    return shop, full, increment, moment


def test_a_chain_comes_back_to_a_moment_and_ends_there(stack):
    shop, full, increment, moment = chained(stack)
    assert [part.name for part in full.datastores["documents"].parts] == ["/indexes", "shop", "/oplog"]
    assert [part.name for part in increment.datastores["documents"].parts] == ["/oplog"]
    restored = shop.restore(at=moment, safety=False)
    assert restored.counts["documents"]["shop"] == {"orders": 7}
    assert restored.ended == ("documents",)
    assert "--oplogLimit=7:1" in (stack.server / "replay").read_text()
    made, *_, gone = (stack.server / "containers").read_text().splitlines()
    assert gone == f"rm -f -v {made.split('--name ')[1].split(' ')[0]}"
    with pytest.raises(FailedUnchanged, match="there was a restore since"):
        shop.backup.incremental()
    shop.backup.full()
    shop.backup.incremental()


def test_a_slice_that_lost_an_entry_is_never_swapped_in(stack):
    shop, _, _, moment = chained(stack)
    (stack.server / "lost").write_text("1")
    with pytest.raises(Damaged, match=r"/oplog@.*oplog\.rs came to 1, and was 0"):
        shop.restore(at=moment, safety=False)
    assert not (stack.server / "places").exists()
    assert (stack.server / "containers").read_text().splitlines()[-1].startswith("rm -f -v ")


def test_the_dumps_of_a_full_backup_come_back_without_a_replay(stack):
    shop, full, *_ = chained(stack)
    (stack.server / "replayed").write_text("5")
    shop.restore(full.id, safety=False)
    assert not (stack.server / "containers").exists()
