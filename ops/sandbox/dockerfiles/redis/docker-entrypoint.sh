#!/bin/sh
# As upstream: options or a .conf alone mean redis-server; root gives the data to `redis` and steps down.
set -e
case "$1" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis '{}' +
    exec gosu redis "$0" "$@"
  fi
  umask 0077
  # Upstream compiles protected mode off, the package does not; a configuration file or an option still decides.
  given=no
  for argument; do case "$argument" in --protected-mode | *.conf) given=yes ;; esac; done
  [ "$given" = yes ] || set -- "$@" --protected-mode no
fi
exec "$@"
