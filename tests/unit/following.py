"""Follows a plan step by step as its expectations say, and keeps what users of the proxy would notice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ops.engines.facts import Container
from ops.engines.release import ServiceSpec
from ops.strategies.steps import Act, Gate, Step, View

__all__ = ["VIEW_OF_NEW_NGINX", "Following", "follow"]

VIEW_OF_NEW_NGINX = {"nginx": "nginx version: nginx/1.27.4"}
_SERVER = re.compile(r"server (\S+?):\d+ .*?(backup|down)?;$", re.MULTILINE)


class Following:
    """What a plan did: `rotations` are the names that got requests, in order; `least` the fewest that ran among them."""

    def __init__(self, spec: ServiceSpec, view: View) -> None:
        self.view = replace(view, notes=VIEW_OF_NEW_NGINX)
        self.rotation = [c.name for c in view.of(spec.name) if c.running]
        self.rotations: list[list[str]] = []
        self.backups: list[list[str]] = []
        self.least = self.before = len(self.rotation)
        self.cut: list[str] = []
        self.ungated: list[str] = []
        self.titles: list[str] = []
        self._gated = {c.name for c in view.of(spec.name)}
        self._spec = spec

    def step(self, step: Step) -> None:
        """Take one step as it is expected to go."""
        self.titles.append(step.title)
        if isinstance(step, Gate):
            self._gated |= {c.name for c in self.view.of(self._spec.name)}
        if not isinstance(step, Act):
            return
        for command in step.commands(self.view):
            if command.title.startswith("write nginx/upstreams/"):
                self._turn(command.stdin.decode())
        after = step.expect(self.view)
        gone = {c.name for c in self.view.containers if c.running} - {c.name for c in after.containers}
        self.cut += sorted(gone & set(self.rotation))
        self.view = after
        running = {c.name for c in after.of(self._spec.name) if c.running}
        self.least = min(self.least, len(running & set(self.rotation)))

    def _turn(self, text: str) -> None:
        found = [(name, role) for name, role in _SERVER.findall(text)]
        self.rotation = [name for name, role in found if not role]
        self.backups.append([name for name, role in found if role == "backup"])
        self.rotations.append(self.rotation)
        self.ungated += [name for name in self.rotation if name not in self._gated]

    @property
    def containers(self) -> list[Container]:
        """The service's containers as they stand now."""
        return list(self.view.of(self._spec.name))


def follow(
    steps: Sequence[Step], spec: ServiceSpec, view: View, look: Callable[[Following], object] = lambda _: None
) -> Following:
    """Take all steps and return what came of them; `look` sees the state behind each."""
    following = Following(spec, view)
    for step in steps:
        following.step(step)
        look(following)
    return following
