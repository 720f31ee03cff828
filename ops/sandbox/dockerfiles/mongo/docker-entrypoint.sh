#!/bin/bash
# The upstream image's contract: MONGO_INITDB_ROOT_USERNAME, _PASSWORD (each also as _FILE), MONGO_INITDB_DATABASE, and
# /docker-entrypoint-initdb.d, all of them read at the first start only; with a root user every connection must prove itself.
set -Eeuo pipefail

from_file() { # NAME: the value of NAME, or of the file that NAME_FILE names
  local name=$1 file=${1}_FILE
  if [[ -n ${!name:-} && -n ${!file:-} ]]; then
    echo "error: both $name and $file are set (but are exclusive)" >&2
    exit 1
  fi
  if [[ -n ${!file:-} ]]; then export "$name=$(<"${!file}")"; fi
  unset "$file"
}

run_init_scripts() {
  local script login=()
  if [[ -n ${MONGO_INITDB_ROOT_USERNAME:-} ]]; then
    login=(--username "$MONGO_INITDB_ROOT_USERNAME" --password "$MONGO_INITDB_ROOT_PASSWORD" --authenticationDatabase admin)
  fi
  for script in /docker-entrypoint-initdb.d/*; do
    case $script in
      *.sh) echo "$0: running $script" && . "$script" ;;
      *.js) echo "$0: running $script" && mongosh --quiet --host 127.0.0.1 "${login[@]}" "${MONGO_INITDB_DATABASE:-test}" "$script" ;;
      *) echo "$0: ignoring $script" ;;
    esac
    echo
  done
}

initialise() { # the server's own words; nobody reaches it from outside before the scripts have run
  "$@" --bind_ip 127.0.0.1 --port 27017 &
  local server=$! tries=100
  until (: >/dev/tcp/127.0.0.1/27017) 2>/dev/null; do
    if ! kill -0 "$server" 2>/dev/null || ((tries-- == 0)); then
      echo "error: the server did not come up for the first time" >&2
      exit 1
    fi
    sleep 0.1
  done
  run_init_scripts
  kill "$server"
  wait "$server" || true
  printf '\nMongoDB init process complete; ready for start up.\n\n'
}

if [[ ${1:0:1} == - ]]; then set -- mongod "$@"; fi
if [[ $1 != mongod ]]; then exec "$@"; fi
if [[ $(id -u) == 0 ]]; then
  find /data/db /data/configdb ! -user mongodb -exec chown mongodb '{}' +
  exec gosu mongodb "${BASH_SOURCE[0]}" "$@"
fi

from_file MONGO_INITDB_ROOT_USERNAME
from_file MONGO_INITDB_ROOT_PASSWORD
if [[ -n ${MONGO_INITDB_ROOT_USERNAME:-} && -n ${MONGO_INITDB_ROOT_PASSWORD:-} ]]; then
  set -- "$@" --auth
elif [[ -n ${MONGO_INITDB_ROOT_USERNAME:-}${MONGO_INITDB_ROOT_PASSWORD:-} ]]; then
  echo 'error: missing MONGO_INITDB_ROOT_USERNAME or MONGO_INITDB_ROOT_PASSWORD: both are wanted for a user to be created' >&2
  exit 1
fi
if [[ -e /data/db/data.bson ]]; then
  unset "${!MONGO_INITDB_@}"
elif [[ -n $(ls -A /docker-entrypoint-initdb.d) ]]; then
  initialise "$@"
fi
exec "$@"
