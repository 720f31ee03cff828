"""The steps of a plan: values that say what will be run, with what is only known on the way left as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ops.commands import Command
from ops.engines.facts import Container
from ops.engines.release import Release, ServiceSpec

__all__ = ["Act", "Drain", "Gate", "Pause", "Soak", "Step", "View", "simulate"]


@dataclass(frozen=True)
class View:
    """What is known of a server while a plan runs: its containers as last asked, and what steps noted.

    `serving` is the release that `current` names, None before the first. `content` maps the files of the proxy's
    folders to their SHA-256; without it nothing is said of them. `passed` are services whose gate this run has passed.
    """

    containers: tuple[Container, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    serving: Release | None = None
    content: Mapping[str, str] | None = None
    passed: frozenset[str] = frozenset()

    def of(self, service: str) -> tuple[Container, ...]:
        """Return the containers of one service by number."""
        return tuple(c for c in self.containers if c.service == service)

    def without(self, gone: Sequence[Container]) -> View:
        """Return the view with some containers gone."""
        return replace(self, containers=tuple(c for c in self.containers if c not in gone))

    def started(self, spec: ServiceSpec, count: int, project: str) -> View:
        """Return the view with `count` more containers of a service, numbered on as Compose does."""
        last = max((c.number for c in self.of(spec.name)), default=0)
        fresh = tuple(
            Container(
                id=f"{project}-{spec.name}-{number}",
                name=f"{project}-{spec.name}-{number}",
                service=spec.name,
                number=number,
                state="running",
                exit_code=0,
                restarts=0,
                health="",
                config=spec.config,
                image=spec.pin,
                reference=spec.pin,
                addresses=(f"<address of {spec.name}-{number}>",),
                started_at="",
            )
            for number in range(last + 1, last + 1 + count)
        )
        return replace(self, containers=self.containers + fresh)


def _as_it_was(view: View) -> View:
    return view


@dataclass(frozen=True)
class Act:
    """Run commands in one round trip. `note` keeps the stdout of the last; `refresh` asks for the containers behind it.

    `expect` says what the view is expected to be then: a plan is shown by following the expectations.
    """

    title: str
    commands: Callable[[View], tuple[Command, ...]]
    note: str = ""
    refresh: bool = False
    expect: Callable[[View], View] = _as_it_was


@dataclass(frozen=True)
class Gate:
    """Wait until the service's containers of this definition are healthy; a crash or the deadline fails the run.

    `leaving` are the ids of those that the plan takes away: how they are does not matter.
    """

    title: str
    spec: ServiceSpec
    leaving: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Soak:
    """Watch the service's containers for `spec.health.soak` seconds; a restart or a failed probe fails the run."""

    title: str
    spec: ServiceSpec
    leaving: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Drain:
    """Wait until `probe` prints none of the lines kept under `note`; past `deadline` seconds go on with a warning."""

    title: str
    probe: Command
    note: str
    deadline: float
    left_over: Callable[[View], Command]


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds, for what offers no way to ask."""

    title: str
    seconds: float


Step = Act | Gate | Soak | Drain | Pause


def simulate(steps: Sequence[Step], view: View) -> tuple[tuple[str, tuple[Command, ...]], ...]:
    """Return each step's title and commands as they would be, were all expectations met; nothing is run."""
    shown = []
    for step in steps:
        if isinstance(step, Act):
            shown.append((step.title, step.commands(view)))
            view = step.expect(view)
        else:
            shown.append((step.title, ()))
    return tuple(shown)
