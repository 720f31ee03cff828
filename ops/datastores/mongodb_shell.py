"""How MongoDB's tools and its shell are called in a container: connected, and with the password in no argument."""

from __future__ import annotations

import json

from ops.commands import quote
from ops.datastores.shell import TAG

__all__ = ["LOGIN", "TOOL", "shell"]

_PLACE = f"^ops_(new|old|part|half)_{TAG}([.]|$)"
# The image's own words for its first user, as files too.
LOGIN = (
    "OPS_USER=$MONGO_INITDB_ROOT_USERNAME OPS_PASSWORD=$MONGO_INITDB_ROOT_PASSWORD; "
    '[ -z "$MONGO_INITDB_ROOT_USERNAME_FILE" ] || OPS_USER=$(cat "$MONGO_INITDB_ROOT_USERNAME_FILE"); '
    '[ -z "$MONGO_INITDB_ROOT_PASSWORD_FILE" ] || OPS_PASSWORD=$(cat "$MONGO_INITDB_ROOT_PASSWORD_FILE"); '
    "export OPS_USER OPS_PASSWORD; "
)
TOOL = """tool() {
  [ -n "$OPS_USER" ] || exec "$@"
  q=$(printf %s "$OPS_PASSWORD" | sed "s/'/''/g"); t=$1; shift
  exec "$t" --config /dev/fd/9 --username "$OPS_USER" --authenticationDatabase admin "$@" 9<<OPS_END
password: '$q'
OPS_END
}; """
_CONNECT = """
const env = process.env, secret = encodeURIComponent;
const who = env.OPS_USER ? `${secret(env.OPS_USER)}:${secret(env.OPS_PASSWORD)}@` : "";
const mongo = new Mongo(`mongodb://${who}127.0.0.1:27017/?authSource=admin&directConnection=true`);
const admin = mongo.getDB("admin"), place = new RegExp(PLACE);
const infos = (db) => mongo.getDB(db).getCollectionInfos().filter((one) => !one.name.startsWith("system."));
const names = (db) => infos(db).map((one) => one.name);
const drop = (db, wanted) => names(db).filter(wanted).forEach((name) => mongo.getDB(db).getCollection(name).drop());
"""


def shell(script: str) -> str:
    """Return shell that runs a script of mongosh in the container, connected."""
    connect = _CONNECT.replace("PLACE", json.dumps(_PLACE))
    return f"{LOGIN}exec mongosh --nodb --norc --quiet --eval {quote(connect + script)}"
