"""What a fresh server needs: Docker from its distribution, the stack's folder, the right to both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ops.commands import Command, quote
from ops.config import Settings
from ops.errors import FailedUnchanged
from ops.hosts import Host
from ops.hosts.fleet import each, together

__all__ = ["Prepared", "prepare"]

# Distributions whose own packages are new enough, with their names there.
PACKAGES = {
    "debian 13": "docker.io docker-cli docker-compose docker-buildx",
    "ubuntu 24.04": "docker.io docker-compose-v2 docker-buildx",
}


@dataclass(frozen=True)
class Prepared:
    """One server: what was done, in order (or would be, in a dry run); empty when all was there."""

    server: str
    done: tuple[str, ...]


def prepare(settings: Settings, hosts: Mapping[str, Host], *, dry_run: bool) -> tuple[Prepared, ...]:
    """Bring servers to where a deploy can begin; run again it does nothing.

    It works as root, as a user with `sudo -n`, or as one who has all rights already. Raises FailedUnchanged for a
    distribution whose packages are too old (it names what is needed) and for what could not be done, inside a Problem with those of all servers.
    """
    root = f"{settings.config.base.rstrip('/')}/{settings.stack}"

    def bring(host: Host) -> Prepared:
        script = _script(root, dry_run=dry_run)
        result = host.run(
            Command(
                script,
                changes=None if dry_run else "packages, folders, groups",
                timeout=900,
                title="prepare the server",
            )
        )
        done = tuple(line.removeprefix("+ ") for line in result.stdout.splitlines() if line.startswith("+ "))
        if not result.ok:
            raise FailedUnchanged(
                result.last_lines or "it could not be prepared",
                target=host.name,
                left_behind="; ".join(done) or None,
                next_step=f"mend that on {host.name} by hand, then inv servers.check {settings.options}",
            )
        return Prepared(host.name, done)

    return tuple(together(each(hosts, bring)).values())


def _script(root: str, *, dry_run: bool) -> str:
    cases = " ".join(f"'{name}') packages='{packages}' ;;" for name, packages in PACKAGES.items())
    act = "false" if dry_run else "true"
    return (
        'say() { printf \'+ %s\\n\' "$1"; }; stop() { echo "$1" >&2; exit 1; }; '
        "user=$(id -un); if [ \"$(id -u)\" = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as='sudo -n'; else as=none; fi; "
        # Without root nothing can be installed; where nothing is missing that does no harm.
        f'need() {{ [ "$as" != none ] || stop "$1, and $user has neither root nor sudo without a password"; say "$1"; {act}; }}; '
        "new() { printf '%s\\n' \"$1\" | awk -F. '{exit !($1 > 2 || ($1 == 2 && $2 >= 20))}'; }; "
        'if ! command -v docker >/dev/null 2>&1 || ! new "$(docker compose version --short 2>/dev/null)"; then '
        f'. /etc/os-release; case "$ID $VERSION_ID" in {cases} *) '
        'stop "$PRETTY_NAME has no Docker with Compose 2.20 in its own packages: install Docker Engine and the compose plugin by Docker\'s own instructions" ;; esac; '
        'if need "install $packages"; then '
        "$as env DEBIAN_FRONTEND=noninteractive sh -c \"apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages\" >/dev/null || stop 'apt-get failed'; "
        "if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then $as systemctl enable --now docker >/dev/null || stop 'docker does not start'; fi; fi; fi; "
        f'd={quote(root)}; if [ ! -d "$d" ] || [ ! -w "$d" ]; then if need "make $d for $user"; then '
        '$as mkdir -p "$d" && $as chown "$user" "$d" && $as chmod 755 "$d" || stop "$d could not be made"; fi; fi; '
        "if [ \"$(id -u)\" != 0 ] && getent group docker >/dev/null && ! id -nG | tr ' ' '\\n' | grep -qx docker && ! docker version >/dev/null 2>&1; then "
        'if need "let $user use Docker (group docker)"; then $as usermod -aG docker "$user" || stop \'usermod failed\'; fi; fi; true'
    )
