"""The last steps on a server: the release becomes current, its images get names that pruning respects, old ones go."""

from __future__ import annotations

from collections.abc import Mapping

from ops.commands import Command, quote
from ops.engines.facts import HostFacts
from ops.engines.layout import Layout
from ops.engines.release import Release

__all__ = ["commit", "image_tag", "kept", "point_current", "prune"]


def image_tag(release: Release, service: str, identity: str | None = None) -> str:
    """Return the local tag that keeps a service's image: `docker image prune` removes images without one."""
    repository = (
        f"opsbook/{release.stack}-{release.environment}/{service}".lower()
    )  # Docker allows no upper case there
    return f"{repository}:{identity or release.id}"


def kept(releases: Mapping[str, Release], current: str, previous: str | None, keep: int) -> set[str]:
    """Return the releases that stay: the newest `keep`, the serving one, and the one that a rollback goes to."""
    newest = sorted(releases, reverse=True)[:keep]
    return {*newest, current, *([previous] if previous else [])} & releases.keys()


def point_current(layout: Layout, release: str) -> str:
    """Return the script that lets `current` name a release, atomically."""
    return f"cd {quote(layout.root)} && ln -sfn {quote(f'releases/{release}')} .current.next && mv -T .current.next current"


def commit(release: Release, layout: Layout) -> Command:
    """Return the command that makes a release current and tags its images."""
    script = ""
    for name, spec in release.services.items():
        script += f"docker tag {quote(spec.pin)} {quote(image_tag(release, name))} || exit 1; "
    # Behind the tags: a run that dies in between must not leave a current release whose images a prune may take.
    script += point_current(layout, release.id)
    return Command(
        script, changes="current, image tags", timeout=120, title=f"current -> {release.id}; tag images"
    )


def prune(release: Release, layout: Layout, facts: HostFacts, keep: int) -> Command | None:
    """Return the command that removes what no kept release needs, once a release is current; None where all stay.

    An image goes only when no kept release and no other stack's tag needs it. What cannot be removed fails nothing.
    """
    known = {name: Release.from_json(text) for name, text in facts.releases.items()} | {release.id: release}
    stay = kept(known, release.id, release.previous, keep)
    gone = sorted(known.keys() - stay)
    if not gone:
        return None
    script = f"cd {quote(layout.root)} || exit 1; "
    needed_files = {digest for name in stay for digest in known[name].files}
    stale_files = sorted({digest for name in gone for digest in known[name].files} - needed_files)
    needed_pins = {spec.pin for name in stay for spec in known[name].services.values()}
    stale_pins = sorted({spec.pin for name in gone for spec in known[name].services.values()} - needed_pins)
    for name in gone:
        tags = " ".join(quote(image_tag(known[name], service, name)) for service in known[name].services)
        script += f"docker image rm {tags} >/dev/null 2>&1; rm -rf {quote(f'releases/{name}')}; "
    for pin in stale_pins:
        # Another stack that runs the same image keeps it under a tag of its own. The tag that it was pulled by goes
        # too, or the image would stay for ever; one that follows no version may be anybody's.
        pulled = [s for name in gone for s in known[name].services.values() if s.versioned and s.pin == pin]
        has = "printf '%s\\n' \"$t\" | grep -q"
        untag = "".join(
            f"{has}xF -- {quote(tag)} && docker image rm {quote(tag)}; "
            for tag in sorted({spec.image for spec in pulled})
        )
        script += (
            f"t=$(docker image inspect --format '{{{{range .RepoTags}}}}{{{{println .}}}}{{{{end}}}}' {quote(pin)} 2>/dev/null); "
            f"{has} '^opsbook/' || {{ {untag}docker image rm {quote(pin)}; }} >/dev/null 2>&1; "
        )
    if stale_files:
        script += "rm -rf " + " ".join(quote(f"files/{digest}") for digest in stale_files) + "; "
    return Command(
        script + "true",
        changes="old releases and their images",
        timeout=120,
        title=f"prune {len(gone)} old release(s)",
    )
