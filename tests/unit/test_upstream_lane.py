"""The lane on real images says what it runs on, and fails where it cannot."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "test"
REFUSES = 'case $1 in pull) echo "Error response"; echo "no such host" >&2; exit 1 ;; esac'
PULLS = 'case $1 in pull) echo pulled ;; image) echo "$5@sha256:aa" ;; esac'


@pytest.fixture
def lane(tmp_path):
    """Run the lane with tools that are given as scripts; what pytest was called with is in `called`."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts" / "test")

    def run(docker):
        called = f'echo "$OPS_SANDBOX_IMAGES $*" >> {tmp_path}/called'
        tools = {"docker": docker, "inv": "true", "pytest": called}
        for name, text in {
            **{f".venv/bin/{tool}": text for tool, text in tools.items()},
            "scripts/setup": "true",
        }.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        return subprocess.run(
            ["bash", str(tmp_path / "scripts" / "test"), "--upstream-images"],
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )

    run.called = tmp_path / "called"
    return run


def test_an_image_that_cannot_be_pulled_fails_it_with_one_line(lane):
    done = lane(REFUSES)
    assert done.returncode == 1
    assert done.stderr == "cannot pull mongo:7: no such host\n"
    assert not lane.called.exists()


def test_it_names_the_images_and_runs_the_tests_on_them_alone(lane):
    done = lane(PULLS)
    assert done.returncode == 0, done.stderr
    assert "mongo:7@sha256:aa as mongo:7\n" in done.stdout
    assert lane.called.read_text().startswith("upstream ")
    assert "tests/upstream tests/sandbox/test_datastores.py" in lane.called.read_text()
