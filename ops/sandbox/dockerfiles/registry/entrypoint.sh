#!/bin/sh
# As upstream: a configuration file means `registry serve`, a verb of the registry runs as such.
set -e
case "$1" in
  *.yaml | *.yml) set -- registry serve "$@" ;;
  serve | garbage-collect | help | -*) set -- registry "$@" ;;
esac
exec "$@"
