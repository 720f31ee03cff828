"""What a service's containers are made from, as a hash that stays the same from one version of Opsbook to the next."""

import json
from pathlib import Path

import pytest

from ops.config import load
from ops.engines.desired import desired
from ops.engines.layout import Layout

RESOLVED = Path(__file__).parents[1] / "fixtures" / "resolved" / "shop.json"  # as Compose 2.26.1 printed it
FOLDER = "/dev/shm/ops.Ab12Cd"
SECRETS = {"DB_PASSWORD": "correct horse", "API_KEY": "battery staple"}

# As version 0.1.0 gives them. They change with a decision alone: docs/decisions/hash-is-format.md.
GOLDEN = {
    "web": ("d1b75fdb4e4e688c0328a9a128ce5ea03e5f0c8330a9def23fa0cbc434b46ff7", "208a8118d6e92618"),
    "db": ("24011c326ff33ad93cb22461b78af1729dcac08c31873621f2ccfc3816cf5e46", "3e0552664fce7294"),
    "nginx": ("97c8088a9198b48fe6da1da2b4b08d15daa1e468f70652a8882b697dc50281cc", "0082684de7f22830"),
}

CHANGED = """service {} gets another hash from the same compose files.

This change would recreate every container of every user at the next deploy, the databases too: a container bears the
hash of the definition that it was made from, and one with another hash is replaced. Render the service as before. If
that cannot be, read docs/decisions/hash-is-format.md before you touch these values.
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """What one server shall run of a web service and a database that use much of Compose."""
    for name in ("OPS_STACK", "MOTD", *SECRETS):
        monkeypatch.delenv(name, raising=False)
    files = {
        "ops.toml": f'stack = "shop"\n[secrets]\nrequired = {json.dumps(list(SECRETS))}\n'
        '[build]\nregistry = "registry.test"\n[services.web]\nport = 8000\nstrategy = "rolling"\n'
        '[proxy]\nservice = "nginx"\nupstreams = "nginx/upstreams"\n'
        "[environments.production]\nservers.web1 = {}\n",
        ".env": "MOTD=hello\n" + "".join(f"{name}='{value}'\n" for name, value in SECRETS.items()),
        "compose.yaml": "configs: {motd: {content: '${MOTD}'}}\nservices: {web: {}, db: {}, nginx: {}}\n",
        "site.conf": "server {}\n",
        "nginx/conf.d/site.conf": "include upstreams/*;\n",
        "initdb/01-schema.sql": "create table notes (id int);\n",
        "initdb/02-data/load.sh": "#!/bin/sh\nexit 0\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.endswith(".sh") else 0o600 if name == ".env" else 0o644)
    return desired(
        load("production", start=tmp_path),
        "web1",
        (FOLDER, json.loads(RESOLVED.read_text())),
        Layout("/opt/opsbook", "shop", "production"),
        version="1.4.2",
        pins={
            "registry.test/shop/web:1.4.2": "registry.test/shop/web@sha256:" + "1" * 64,
            "postgres:16": "postgres@sha256:" + "2" * 64,
            "nginx:1.27": "nginx@sha256:" + "3" * 64,
        },
        secret_values=SECRETS,
    )


@pytest.mark.parametrize("service", GOLDEN)
def test_the_hash_of_a_service_is_the_one_that_running_containers_bear(shop, service):
    spec = shop.services[service]
    assert shop.problems == ()
    assert (spec.base, spec.config) == GOLDEN[service], CHANGED.format(service)
