"""The proxy: its upstream files, and the commands that change them without losing a request.

nginx's behaviour is documented at https://nginx.org/en/docs/http/ngx_http_upstream_module.html; `resolve` came to
the free version with 1.27.3, `keepalive_min_timeout` with 1.27.4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from ops.commands import Command, quote
from ops.engines.compose import in_release
from ops.engines.layout import Layout
from ops.engines.release import ProxySpec, Release, ServiceSpec

__all__ = [
    "RESOLVES_FROM",
    "apply_configuration",
    "configuration_changed",
    "parse_version",
    "resolve_again",
    "resting_upstream",
    "rests",
    "upstream_text",
    "version_query",
    "workers_query",
    "write_upstream",
]

RESOLVES_FROM = (1, 27, 4)
REFUSED = "nginx refuses the new configuration; the old one stands"


def parse_version(text: str) -> tuple[int, ...]:
    """Given what `nginx -v` prints, once or more, return the oldest version; () where there is none."""
    found = re.findall(r"nginx/([0-9.]+)", text)
    return min((tuple(int(part) for part in one.split(".") if part) for one in found), default=())


def version_query(project: str, proxy: ProxySpec, *, renewed: bool = False) -> Command:
    """Return the command that prints nginx's version: of the running proxy, else of its image; both when `renewed`."""
    image = f"docker run --rm --pull never --entrypoint nginx {quote(proxy.image)} -v 2>&1"
    return Command(
        f"p={_running(project, proxy)}; "
        + (
            f'[ -z "$p" ] || docker exec "$p" nginx -v 2>&1; {image}'
            if renewed
            else f'if [ -n "$p" ]; then docker exec "$p" nginx -v 2>&1; else {image}; fi'
        ),
        title="nginx -v",
    )


def workers_query(project: str, proxy: ProxySpec) -> Command:
    """Return the command that prints the pids of the proxy's worker processes, one a line."""
    return Command(f"p={_running(project, proxy)}; {_workers()}", title="docker top: nginx workers")


def upstream_text(
    spec: ServiceSpec, servers: Sequence[str], *, backups: Sequence[str] = (), resolve: bool
) -> str:
    """Return an upstream file: `servers` are container names (with `resolve`), or addresses without.

    Without any server it is one that nginx accepts all the same, and that answers 502.
    """
    lines = [
        f"# Written by Opsbook at each switch of {spec.name}.",
        f"upstream {spec.name} {{",
        f"    zone {spec.name} 64k;",
    ]
    if resolve:
        lines.append("    resolver 127.0.0.11 valid=1s ipv6=off;")
    if spec.balance != "round_robin":
        lines.append(f"    {spec.balance};")
    option = " resolve" if resolve else ""
    lines += [f"    server {server}:{spec.port}{option} max_fails=1 fail_timeout=2s;" for server in servers]
    if spec.balance != "ip_hash":  # which knows no backup servers
        lines += [
            f"    server {server}:{spec.port}{option} max_fails=1 fail_timeout=2s backup;"
            for server in backups
        ]
    if not servers:
        lines.append(f"    server 127.0.0.1:{spec.port} down;")
    lines += ["    keepalive 16;", "}", ""]
    return "\n".join(lines)


def resting_upstream(spec: ServiceSpec, names: Sequence[str], *, resolve: bool) -> str:
    """Return the upstream between deploys; it survives a reboot: container names, or the service's on an old nginx."""
    if resolve or not names:
        return upstream_text(spec, names, resolve=resolve)
    return upstream_text(spec, [spec.name], resolve=False)


def rests(spec: ServiceSpec, names: Sequence[str], proxy: ProxySpec, present: Mapping[str, str]) -> bool:
    """Return whether the upstream file is one between deploys, for containers of these names, and nginx has loaded it;
    `present` is as in `configuration_changed`.
    """
    texts = (resting_upstream(spec, names, resolve=resolve) for resolve in (True, False))
    digests = {hashlib.sha256(text.encode()).hexdigest() for text in texts}
    file, loaded = f"{proxy.upstreams}/{spec.name}.conf", f"{proxy.upstreams}/.{spec.name}.conf.loaded"
    return present.get(file) in digests and present.get(loaded) == present[file]


def write_upstream(layout: Layout, project: str, proxy: ProxySpec, service: str, text: str) -> Command:
    """Return the command that puts an upstream file in place, tests it and reloads the proxy where it runs.

    It prints the pids of the workers from before the reload; where the file is loaded already (by a run that died),
    of those that still end their requests. A file that nginx refuses is put back.
    """
    folder = f"{layout.proxy}/{proxy.upstreams}"
    file = f"{service}.conf"
    return Command(
        f"umask 022; mkdir -p {quote(folder)} && cd {quote(folder)} && cat > {quote('.' + file + '.next')} || exit 1; "
        # What was loaded last is kept beside it: a run killed between write and reload is seen, an equal file is not reloaded.
        f'f={quote(file)}; if cmp -s ".$f.next" ".$f.loaded" && cmp -s ".$f.next" "$f"; then rm -f ".$f.next"; '
        f"p={_running(project, proxy)}; {_workers('shutting down')}; exit 0; fi; "
        f'had=; [ -e "$f" ] && {{ cp -p "$f" ".$f.previous"; had=1; }}; '
        f'mv ".$f.next" "$f" || exit 1; p={_running(project, proxy)}; '
        'back() { if [ -n "$had" ]; then mv ".$f.previous" "$f"; else rm -f "$f"; fi; }; '
        f'{_reload()}; cp -p "$f" ".$f.loaded"; rm -f ".$f.previous"',
        stdin=text.encode(),
        changes=f"upstream of {service}",
        title=f"write {proxy.upstreams}/{file}; nginx -t; nginx -s reload",
    )


def apply_configuration(
    layout: Layout, project: str, release: Release, generated: Collection[str], *, renewed: bool = False
) -> Command:
    """Return the command that brings the proxy's folders to a release's content, tests it and reloads.

    The content stands under files/ since the upload. `generated` are the services whose upstream files are written
    at each switch: theirs stay. What nginx refuses is put back as it was. Where the proxy is `renewed` behind it, the
    release's own image and mounts are what it is tested with, and nothing is reloaded.
    """
    assert release.proxy is not None
    own = {f"{release.proxy.upstreams}/{service}.conf" for service in generated}
    folders = list(release.proxy_folders)
    keep = quote("\n".join([*(path for path in release.proxy_files if path not in own), *sorted(own)]))
    listed = " ".join(map(quote, folders))
    every = f"find {listed} -type f ! -name '.*' 2>/dev/null"
    copies = ""
    for folder, digest in release.proxy_folders.items():
        content = quote(f"{layout.files}/{digest}")  # not there for a folder without files
        spare = [path.removeprefix(f"{folder}/") for path in sorted(own) if path.startswith(f"{folder}/")]
        excluded = " ".join(f"--exclude={quote(f'./{path}')}" for path in spare)
        copies += f"[ ! -d {content} ] || tar -C {content} {excluded} -cf - . | tar -C {quote(folder)} -xpf - || exit 1; "
    return Command(
        f"umask 022; mkdir -p {quote(layout.proxy)} && cd {quote(layout.proxy)} && mkdir -p {listed} || exit 1; "
        f"trap 'rm -f .previous.tar .keep' EXIT; tar -cf .previous.tar {listed} || exit 1; {copies}"
        f'printf \'%s\\n\' {keep} > .keep; {every} | while IFS= read -r f; do grep -qxF -- "$f" .keep || rm -f "$f"; done; '
        f"back() {{ {every} -exec rm -f {{}} +; tar -xf .previous.tar; }}; "
        f"p={_running(project, release.proxy)}; {_tried(layout, release) if renewed else _reload()}",
        changes="configuration of the proxy",
        title=f"write {', '.join(folders)}; nginx -t" + ("" if renewed else "; nginx -s reload"),
    )


def resolve_again(project: str, proxy: ProxySpec) -> Command:
    """Return the command that lets the proxy, where it runs, look up again where the containers are that it speaks to."""
    return Command(
        f'p={_running(project, proxy)}; [ -z "$p" ] || docker exec "$p" nginx -s reload',
        changes="workers of the proxy",
        title="nginx -s reload",
    )


def configuration_changed(release: Release, present: Mapping[str, str]) -> bool:
    """Return whether the proxy's folders differ from a release's content; `present` maps their files to SHA-256."""
    if release.proxy is None:
        return False
    rolling = [name for name, spec in release.services.items() if spec.strategy == "rolling"]
    own = {f"{release.proxy.upstreams}/{service}.conf" for service in rolling}
    wanted = {path: digest for path, digest in release.proxy_files.items() if path not in own}
    folders = tuple(f"{folder}/" for folder in release.proxy_folders)
    found = {
        path: digest
        for path, digest in present.items()
        if path in wanted or (path.startswith(folders) and not path.rpartition("/")[2].startswith("."))
    }
    return wanted != {path: digest for path, digest in found.items() if path not in own}


def _running(project: str, proxy: ProxySpec) -> str:
    filters = " ".join(
        f"--filter {quote(f'label=com.docker.compose.{key}={value}')}"
        for key, value in (("project", project), ("service", proxy.service), ("oneoff", "False"))
    )
    return f"$(docker ps -q --no-trunc --filter status=running {filters} | head -n 1)"


def _workers(state: str = "") -> str:
    pattern = f"nginx: worker.*{state}" if state else "nginx: worker"
    return f'[ -z "$p" ] || docker top "$p" -eo pid,args | awk \'/{pattern}/ {{print $1}}\''


def _tried(layout: Layout, release: Release) -> str:
    """Test the configuration in a container of the release that is thrown away; only nginx's own refusal counts."""
    assert release.proxy is not None
    options = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "nginx", release.proxy.service, "-t")
    test = in_release(layout, release.id, "--progress", "quiet", *options)
    return (
        f'if [ -n "$p" ]; then told=$( ({test}) </dev/null 2>&1 ) || case $told in *"test failed"*) '
        f'back; printf "%s\\n" "$told" {quote(REFUSED)} >&2; exit 65 ;; esac; fi'
    )


def _reload() -> str:
    return (
        f'if [ -n "$p" ]; then {_workers()}; '
        f'docker exec "$p" nginx -t -q || {{ back; echo {quote(REFUSED)} >&2; exit 65; }}; '
        'docker exec "$p" nginx -s reload || { back; exit 66; }; fi'
    )
