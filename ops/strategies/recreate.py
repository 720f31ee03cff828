"""Recreate: stop the old, start the new. For databases, proxies, and whatever cannot run twice."""

from __future__ import annotations

from collections.abc import Sequence

from ops.engines.compose import up
from ops.engines.release import ServiceSpec, fits
from ops.strategies.context import Switch
from ops.strategies.steps import Act, Gate, Soak, Step, View

__all__ = ["recreate", "settled", "watched"]


def recreate(specs: Sequence[ServiceSpec], switch: Switch) -> tuple[Step, ...]:
    """Given services of one level that changed, return the steps that bring them up together and gate each."""
    if not specs:
        return ()
    names = [spec.name for spec in specs]
    command = up(
        switch.layout,
        switch.release,
        names,
        scale={spec.name: spec.replicas for spec in specs},
        recreate=True,
        timeout=switch.timeout,
    )

    def expect(view: View) -> View:
        for spec in specs:
            view = view.without(view.of(spec.name)).started(spec, spec.replicas, switch.project)
        return view

    steps: list[Step] = [
        Act(f"start {', '.join(names)}", lambda view: (command,), refresh=True, expect=expect)
    ]
    return (*steps, *watched(specs))


def watched(specs: Sequence[ServiceSpec]) -> tuple[Step, ...]:
    """Return the steps that let services prove themselves: each its gate, then each its soak."""
    steps: list[Step] = []
    for spec in specs:
        if spec.replicas:
            good = "has ended well" if spec.once else "is healthy"
            steps.append(Gate(f"wait until {spec.name} {good}", spec))
    steps += [
        Soak(f"watch {spec.name} for {spec.health.soak:g} s", spec) for spec in specs if spec.health.soak
    ]
    return tuple(steps)


def settled(spec: ServiceSpec, view: View) -> bool:
    """Return whether a service already runs, or has run to its end, as defined."""
    found = view.of(spec.name)
    return len(found) == spec.replicas and all(fits(spec, c) for c in found)
