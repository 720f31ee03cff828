"""No phase of a run without a case that kills, interrupts and freezes it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from ops.config.models import Hook
from ops.runs.phases import Phase
from ops.tasks.live import PHASES

FILE = Path(__file__).parents[1] / "sandbox" / "test_interruptions.py"


def parametrized(name: str) -> set[str]:
    """Return the source texts of what a test of the file is parametrized with."""
    for node in ast.walk(ast.parse(FILE.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            calls = [mark for mark in node.decorator_list if isinstance(mark, ast.Call)]
            return {ast.unparse(call.args[1]) for call in calls}
    raise AssertionError(f"{FILE.name} has no {name}")


@pytest.mark.holds(5)
@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("test_a_killed_run_is_finished_by_resume", "KILLED"),
        ("test_a_killed_run_is_taken_back_by_rollback", "KILLED"),
        ("test_an_interrupted_run_is_rolled_back", "Phase"),
        ("test_a_frozen_run_that_wakes_changes_nothing", "Phase"),
    ],
)
def test_the_cases_are_taken_from_the_phases(name: str, cases: str) -> None:
    """Each kind of death runs through the enum itself, or through the places that are made of it."""
    assert cases in parametrized(name)


@pytest.mark.holds(5)
def test_the_places_hold_every_phase() -> None:
    """The places where runs are held are made for all members of the enum, and the kills go through all places."""
    found = {
        target.id: ast.unparse(node.value)
        for node in ast.parse(FILE.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert found["PLACES"].startswith("{phase: ")
    assert found["PLACES"].endswith(" for phase in Phase}")
    assert "*PLACES.values()" in found["KILLED"]


@pytest.mark.holds(5)
def test_every_phase_can_be_held_and_shown() -> None:
    """A hook can stand at each phase (that is how the tests stop a run there), and each has words for people."""
    phases = {str(phase) for phase in Phase}
    assert set(get_args(Hook.model_fields["phase"].annotation)) == phases
    assert set(PHASES) == phases
