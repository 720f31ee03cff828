"""Tags become digests once for the fleet; then every server pulls what it lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.commands import Command, quote
from ops.config import Settings
from ops.config.logins import credentials, registry_of
from ops.deploy.survey import Survey, current_release
from ops.engines.facts import HostFacts
from ops.errors import ConfigError, FailedUnchanged, OpsError, gathered
from ops.hosts import Host
from ops.hosts.fleet import each, together

__all__ = ["Wish", "known_pins", "pull", "resolve", "served_pins"]

_PULLED = '{"id":{{json .Id}},"digests":{{json .RepoDigests}}}'


@dataclass(frozen=True)
class Wish:
    """An image that servers need. `versioned` ones are asked for at each deploy; `policy` is Compose's pull_policy."""

    reference: str
    servers: tuple[str, ...]
    versioned: bool
    policy: str = ""


def known_pins(
    wishes: Sequence[Wish], surveys: Mapping[str, Survey], served: Mapping[str, str]
) -> dict[str, str]:
    """Return the pins that need no question to a registry.

    Those are references by digest; those that follow no version and stand unchanged in a release that serves (a
    deploy of the API must not bring a new database), by `served_pins`; and local ones whose pull_policy says so.
    """
    pins: dict[str, str] = {}
    for wish in wishes:
        if "@sha256:" in wish.reference:
            pins[wish.reference] = wish.reference
        elif wish.reference in served and not wish.versioned and wish.policy != "always":
            pins[wish.reference] = served[wish.reference]
        elif wish.policy in ("missing", "if_not_present", "never", "build"):
            found = next(
                (pin for name in wish.servers if (pin := local_pin(wish.reference, surveys[name].facts))),
                None,
            )
            if found:
                pins[wish.reference] = found
    return pins


def served_pins(surveys: Mapping[str, Survey]) -> dict[str, str]:
    """Return what each image reference means in the releases that serve; where two disagree, the earlier server's wins.

    So give the state host first: it is asked whatever `--servers` says, and one answer brings every server, in one
    deploy or in several, to one image. What it does not run itself is known from the servers of a deploy alone.
    """
    pins: dict[str, str] = {}
    for survey in surveys.values():
        release = current_release(survey)
        for spec in release.services.values() if release else ():
            pins.setdefault(spec.image, spec.pin)
    return pins


def local_pin(reference: str, facts: HostFacts) -> str | None:
    """Return what pins a local image: its digest where it came from a registry, else its id; None without one."""
    image = facts.local(reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest")
    if image is None:
        return None
    return image.id if image.digest in ("", "<none>") else f"{image.repository}@{image.digest}"


def resolve(
    wishes: Sequence[Wish],
    known: Mapping[str, str],
    surveys: Mapping[str, Survey],
    hosts: Mapping[str, Host],
    settings: Settings,
) -> dict[str, str]:
    """Pull each reference without a `known` pin on one server and return the pins of all.

    Raises Problem with every reference that no registry gave.
    """
    pins = dict(known)
    asked: dict[str, list[Wish]] = {}
    for wish in wishes:
        if wish.reference not in pins:
            asked.setdefault(wish.servers[0], []).append(wish)
    if not asked:
        return pins

    def ask(host: Host) -> dict[str, str]:
        name = host.name
        references = [wish.reference for wish in asked[name]]
        answers = _pulled(
            host.run(pull(references, credentials(settings, references), settings.config.timeout)).stdout
        )
        found: dict[str, str] = {}
        faults: list[OpsError] = []
        for reference in references:
            answer = answers.get(reference, "the pull was cut off")
            if isinstance(answer, str):
                own = surveys[name].facts.local(reference)
                if own is not None and own.digest in ("", "<none>"):
                    found[reference] = own.id  # built on the server, in no registry
                else:
                    faults.append(pull_error(reference, answer, name, surveys[name].facts))
            else:
                found[reference] = _pin(reference, answer)
        if faults:
            raise gathered(faults)
        return found

    for answer in together(each({name: hosts[name] for name in asked}, ask)).values():
        pins |= answer
    return pins


def pull_error(reference: str, text: str, server: str, facts: HostFacts) -> OpsError:
    """Return the error for an image that could not be pulled.

    The disk is full, it does not exist, it needs a login, or no registry answers.
    """
    low = text.lower()
    registry = registry_of(reference)
    if "no space left" in low:
        where = list(facts.free)[-1]  # the folder of Docker's data is told last
        return FailedUnchanged(
            f"disk full: the filesystem of {where} has no room for {reference}: {text}",
            target=server,
            next_step=f"make room on {server}: docker system df; docker image prune",
        )
    if "manifest unknown" in low or ("not found" in low and "name" not in low):
        return FailedUnchanged(
            f"there is no image {reference}",
            target=server,
            next_step="build and push it (inv build --push), or check --version",
        )
    if "unauthorized" in low or "authentication required" in low or "denied" in low:
        return FailedUnchanged(
            f"{registry} refuses {reference}: {text}",
            target=server,
            next_step=f'check [registries."{registry}"] in ops.toml and its password, or that the image exists',
        )
    return FailedUnchanged(
        f"cannot pull {reference}: {text}",
        target=server,
        next_step=f"does {registry} answer from {server}? then run it again",
    )


def pull(references: Sequence[str], auths: str | None, timeout: float) -> Command:
    """Return the command that pulls images and prints for each `reference<TAB>JSON` or `reference<TAB>!reason`.

    `auths` is the text of a Docker config.json: it stands in a folder in memory for the pull alone.
    """
    setup = ""
    if auths is not None:
        setup = (
            "t=/dev/shm; [ -w $t ] || t=/tmp; c=$(umask 077; mktemp -d $t/ops.XXXXXX) || exit 1; "
            'trap \'rm -rf "$c"\' EXIT; trap \'exit 1\' HUP INT TERM; (umask 077; cat > "$c/config.json"); export DOCKER_CONFIG="$c"; '
        )
    one = (
        'one() { if e=$(docker pull -q "$1" 2>&1 >/dev/null); then '
        f'printf \'%s\\t%s\\n\' "$1" "$(docker image inspect --format {quote(_PULLED)} "$1")"; '
        'else printf \'%s\\t!%s\\n\' "$1" "$(printf %s "$e" | tail -n 1)"; fi; }; '
    )
    calls = "; ".join(f"one {quote(reference)}" for reference in references)
    return Command(
        setup + one + calls,
        stdin=(auths or "").encode(),
        changes="images",
        timeout=timeout,
        title="; ".join(f"docker pull {reference}" for reference in references),
    )


def pull_pins(
    wanted: Mapping[str, Mapping[str, str]],
    surveys: Mapping[str, Survey],
    hosts: Mapping[str, Host],
    settings: Settings,
) -> None:
    """Pull on each server the pins that it lacks; `wanted` maps servers to references and their pins.

    Raises Problem with every image on every server that could not be pulled.
    """
    lacking = {}
    for name, pins in wanted.items():
        missing = sorted({pin for pin in pins.values() if surveys[name].facts.local(pin) is None})
        if missing:
            lacking[name] = missing

    def fetch(host: Host) -> None:
        name = host.name
        ids = [pin for pin in lacking[name] if pin.startswith("sha256:")]
        if ids:
            raise FailedUnchanged(
                f"the image {ids[0][:19]}… is not on this server and in no registry",
                target=name,
                next_step="push it to a registry (inv build --push)",
            )
        answers = _pulled(
            host.run(
                pull(lacking[name], credentials(settings, lacking[name]), settings.config.timeout)
            ).stdout
        )
        faults = []
        for pin in lacking[name]:
            answer = answers.get(pin, "the pull was cut off")
            if isinstance(answer, str):
                faults.append(pull_error(pin, answer, name, surveys[name].facts))
        if faults:
            raise gathered(faults)

    together(each({name: hosts[name] for name in lacking}, fetch))


def _pulled(text: str) -> dict[str, dict[str, object] | str]:
    found: dict[str, dict[str, object] | str] = {}
    for line in filter(None, text.split("\n")):
        reference, _, answer = line.partition("\t")
        found[reference] = answer[1:] if answer.startswith("!") else json.loads(answer)
    return found


def _pin(reference: str, answer: Mapping[str, object]) -> str:
    repository = reference.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    digests = answer.get("digests")
    candidates = [str(digest) for digest in digests] if isinstance(digests, list) else []
    exact = [digest for digest in candidates if digest.partition("@")[0] == repository]
    if exact or candidates:
        return (exact or candidates)[0]
    raise ConfigError(f"{reference} was pulled, but Docker knows no digest of it")
