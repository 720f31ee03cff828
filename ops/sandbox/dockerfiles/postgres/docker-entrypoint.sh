#!/bin/bash
# The upstream image's contract: POSTGRES_USER, _PASSWORD, _DB, _INITDB_ARGS (each also as _FILE), POSTGRES_INITDB_WALDIR,
# POSTGRES_HOST_AUTH_METHOD, and /docker-entrypoint-initdb.d, all of them read at the first start only.
set -Eeo pipefail

from_file() { # NAME DEFAULT: the value of NAME, or of the file that NAME_FILE names, or DEFAULT
  local name=$1 file=${1}_FILE
  if [[ -n ${!name} && -n ${!file} ]]; then
    echo "error: both $name and $file are set (but are exclusive)" >&2
    exit 1
  fi
  if [[ -n ${!file} ]]; then export "$name=$(<"${!file}")"; else export "$name=${!name:-$2}"; fi
  unset "$file"
}

local_psql() { PGHOST= PGHOSTADDR= psql --set ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"; }

run_init_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    case $script in
      *.sh)
        if [[ -x $script ]]; then echo "$0: running $script" && "$script"; else echo "$0: sourcing $script" && . "$script"; fi ;;
      *.sql) echo "$0: running $script" && local_psql --dbname "$POSTGRES_DB" --file "$script" ;;
      *.sql.gz) echo "$0: running $script" && gunzip --stdout "$script" | local_psql --dbname "$POSTGRES_DB" ;;
      *.sql.xz) echo "$0: running $script" && xzcat "$script" | local_psql --dbname "$POSTGRES_DB" ;;
      *.sql.zst) echo "$0: running $script" && zstd --decompress --stdout "$script" | local_psql --dbname "$POSTGRES_DB" ;;
      *'/*') ;;
      *) echo "$0: ignoring $script" ;;
    esac
  done
}

initialise() { # the server's own options, as they were given
  if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
    {
      echo 'Error: Database is uninitialized and superuser password is not specified.'
      echo '       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser.'
    } >&2
    exit 1
  fi
  # POSTGRES_INITDB_ARGS is a line of shell words, upstream too.
  eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") \
    ${POSTGRES_INITDB_WALDIR:+--waldir="$POSTGRES_INITDB_WALDIR"} '"$POSTGRES_INITDB_ARGS"
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption "$@")}" >>"$PGDATA/pg_hba.conf"

  # Without a TCP address nobody connects, or takes it for healthy, before the scripts have run.
  export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
  PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")" -w start
  if [[ -z $(local_psql --dbname postgres --tuples-only --set name="$POSTGRES_DB" <<<"SELECT 1 FROM pg_database WHERE datname = :'name'") ]]; then
    local_psql --dbname postgres --set name="$POSTGRES_DB" <<<'CREATE DATABASE :"name"'
  fi
  run_init_scripts
  PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
  unset PGPASSWORD
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

if [[ ${1:0:1} == - ]]; then set -- postgres "$@"; fi
if [[ $1 != postgres ]]; then exec "$@"; fi
for argument; do
  case $argument in -'?' | --help | --describe-config | -V | --version) exec "$@" ;; esac
done

install -d "$PGDATA" 2>/dev/null || true
chmod 0700 "$PGDATA" 2>/dev/null || true
if [[ $(id -u) == 0 ]]; then
  find "$PGDATA" ! -user postgres -exec chown postgres '{}' +
  if [[ -n $POSTGRES_INITDB_WALDIR ]]; then install -d -o postgres -g postgres -m 0700 "$POSTGRES_INITDB_WALDIR"; fi
  exec gosu postgres "${BASH_SOURCE[0]}" "$@"
fi

from_file POSTGRES_PASSWORD ''
from_file POSTGRES_USER postgres
from_file POSTGRES_DB "$POSTGRES_USER"
from_file POSTGRES_INITDB_ARGS ''
if [[ -s $PGDATA/PG_VERSION ]]; then
  printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
else
  initialise "${@:2}"
fi
exec "$@"
