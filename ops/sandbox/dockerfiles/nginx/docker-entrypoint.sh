#!/bin/sh
# As upstream: before nginx starts, templates get the environment's values and the scripts in /docker-entrypoint.d run.
set -e
if [ "$1" = nginx ]; then
  if [ -d /etc/nginx/templates ]; then
    names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | tr '\n' ' ')
    find /etc/nginx/templates -name '*.template' | while read -r template; do
      relative=${template#/etc/nginx/templates/}
      target=/etc/nginx/conf.d/${relative%.template}
      mkdir -p "$(dirname "$target")"
      echo "$0: Running envsubst on $template to $target"
      envsubst "$names" <"$template" >"$target"
    done
  fi
  for script in /docker-entrypoint.d/*.envsh /docker-entrypoint.d/*.sh; do
    [ -x "$script" ] || continue
    case "$script" in *.envsh) . "$script" ;; *) "$script" ;; esac
  done
fi
exec "$@"
