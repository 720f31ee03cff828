"""The compose commands that change a server, built and not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops.commands import Command, quote
from ops.commands.quoting import quote_all
from ops.engines.layout import Layout
from ops.engines.release import Release, config_variable
from ops.engines.rendering import COMPOSE

__all__ = ["compose_yaml", "dotenv_values", "down", "in_release", "one_off", "up"]


def in_release(layout: Layout, release: str, *arguments: str) -> str:
    """Return the script that runs `docker compose` in a release's folder, with that release's .env alone."""
    return f"cd {quote(layout.release(release))} && {COMPOSE} {quote_all(arguments)}"


def up(
    layout: Layout,
    release: str,
    services: Sequence[str],
    *,
    scale: Mapping[str, int],
    recreate: bool,
    timeout: float,
) -> Command:
    """Return the command that brings services to a release's definition, their dependencies untouched.

    `scale` is the number of containers for services that have more than one, or less. Without `recreate` the
    containers that run are left alone, whatever their definition.
    """
    arguments = ["up", "-d", "--no-deps", "--no-build", "--pull", "never", "--quiet-pull"]
    if not recreate:
        arguments.append("--no-recreate")
    for name, count in scale.items():
        arguments += ["--scale", f"{name}={count}"]
    arguments += services
    return Command(
        f"{in_release(layout, release, '--progress', 'quiet', *arguments)}",
        changes=f"containers of {', '.join(services)}",
        timeout=timeout,
        title=f"docker compose {quote_all(arguments)}",
    )


def one_off(
    layout: Layout, release: str, service: str, argv: Sequence[str], *, run_id: str, timeout: float
) -> Command:
    """Return the command that runs `argv` once in a container of a service's image, removed at its end."""
    label = f"ops.run={run_id}"
    script = in_release(
        layout,
        release,
        "--progress",
        "quiet",
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "--label",
        label,
        service,
        *argv,
    )
    # Ending the client does not end what runs inside: the container is removed by its label.
    clean = f"docker ps -aq --filter {quote('label=' + label)} | xargs -r docker rm -f >/dev/null"
    return Command(
        f"trap {quote(clean + '; exit 143')} HUP INT TERM; ( {script} ) & wait $!",
        changes=f"whatever {quote_all(argv)} changes",
        timeout=timeout,
        title=f"docker compose run --rm {quote_all([service, *argv])}",
    )


def down(project: str, *, volumes: bool) -> Command:
    """Return the command that removes a project's containers and networks, and its volumes if asked."""
    arguments = ["--project-name", project, "down", "--remove-orphans"] + (["--volumes"] if volumes else [])
    return Command(
        f"{COMPOSE} {quote_all(arguments)}",
        changes="containers and networks" + (" and volumes" if volumes else ""),
        timeout=300,
        title=f"docker compose {quote_all(arguments)}",
    )


def compose_yaml(model: Mapping[str, Any], project: str) -> str:
    """Return the text of a release's compose.yaml, `name:` first."""
    import yaml

    rest = {key: value for key, value in model.items() if key != "name"}

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # libyaml's where it is built in
        pass

    Dumper.add_representer(str, _string)
    body: str = yaml.dump(
        {"name": project, **rest}, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000
    )
    return "# Written by Opsbook for this release; values of secrets stand in .env beside it.\n" + body


def _string(dumper: Any, text: str) -> Any:
    """Quote what looks like the start of a number: 1e3 and 0o17 are text for PyYAML, but numbers for Compose."""
    style = '"' if text[:1] in tuple("0123456789+-.") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def dotenv_values(release: Release, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return what a release's .env holds: its secrets, and each service's hash for its label."""
    hashes = {config_variable(name): spec.config for name, spec in release.services.items()}
    return {**secrets, **hashes}
