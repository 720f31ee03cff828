"""What Docker says during a build: shown in short, masked, and told as an error."""

import pytest

from ops.build.failures import build_failed, push_failed
from ops.build.output import BuildOutput
from ops.commands import Redactor, Secret
from ops.config import load

PUSHED_IN_VAIN = """\
#8 pushing registry.example.org/shop/web:1 with docker
#8 pushing layer 21821b0f6b62 0.0s done
#8 ERROR: unauthorized: authentication required
------
 > pushing registry.example.org/shop/web:1 with docker:
------
ERROR: unauthorized: authentication required
"""
NO_BASE = """\
#2 [internal] load metadata for base.example.org:5000/python:3
------
 > [internal] load metadata for base.example.org:5000/python:3:
------
ERROR: failed to solve: base.example.org:5000/python:3: failed to resolve source metadata for base.example.org:5000/python:3: \
pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials
"""
BROKEN_STEP = """\
#5 [2/3] RUN make
#5 0.132 cc: permission denied, access denied
------
 > [2/3] RUN make:
0.132 cc: permission denied, access denied
------
ERROR: failed to solve: process "/bin/sh -c make # access denied" did not complete successfully: exit code: 2
"""


def fed(text, secrets=(), size=None):
    logged, said = [], []
    output = BuildOutput(logged.append, said.append, Redactor(Secret(secret) for secret in secrets))
    data = text.encode()
    for at in range(0, len(data), size or len(data)):
        output.feed(data[at : at + (size or len(data))])
    output.finish()
    return output, logged, said


def test_steps_are_said_once_and_everything_is_logged():
    text = "#1 [internal] load .dockerignore\n#5 [2/3] RUN make\n#5 0.1 cc\n#5 [2/3] RUN make\n#7 exporting to image\n"
    _, logged, said = fed(text)
    assert said == ["[2/3] RUN make", "exporting to image"]
    assert logged == text.splitlines()


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_secret_that_comes_in_pieces_is_masked(size):
    _, logged, _ = fed("#5 0.1 token=hunter2222 ü\n#5 DONE", secrets=["hunter2222"], size=size)
    assert logged == ["#5 0.1 token=*** ü", "#5 DONE"]


def test_of_a_line_that_is_drawn_over_only_the_last_state_stays():
    _, logged, _ = fed("a: 10%\ra: 100%\r\n")
    assert logged == ["a: 100%"]


def test_the_end_of_a_failed_build_is_its_own_summary():
    output, _, _ = fed("#1 long ago\n" * 100 + BROKEN_STEP)
    assert output.tail.startswith("------\n > [2/3] RUN make:")
    assert output.tail.endswith("exit code: 2")
    assert output.verdict.startswith("failed to solve: process")


def test_a_long_summary_is_cut_but_keeps_its_last_line():
    output, _, _ = fed("------\n" + "noise\n" * 40 + "ERROR: the reason\n")
    assert len(output.tail.splitlines()) == 20
    assert output.tail.endswith("ERROR: the reason")


@pytest.fixture
def settings(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "ops.toml").write_text(
        '[registries."registry.example.org"]\nusername = "ci"\npassword = "env:PASSWORD"\n[environments.staging]\n'
    )
    return load("staging", start=folder)


def failure(settings, text):
    output, _, _ = fed(text)
    return build_failed(settings, "web", "registry.example.org/shop/web:1", output.verdict, output.tail)


def test_a_refused_push_names_the_entry_of_the_registry(settings):
    error = failure(settings, PUSHED_IN_VAIN)
    assert str(error).startswith(
        "web: registry.example.org refuses registry.example.org/shop/web:1: unauthorized"
    )
    assert error.next_step == 'check [registries."registry.example.org"] in ops.toml and its password'
    assert error.exit_code == 1


def test_a_base_image_without_a_login_names_its_own_registry(settings):
    error = failure(settings, NO_BASE)
    assert str(error).startswith("web: base.example.org:5000 refuses base.example.org:5000/python:3")
    assert error.next_step == 'add [registries."base.example.org:5000"] to ops.toml'


def test_a_failed_step_is_no_matter_of_registries_whatever_it_printed(settings):
    error = failure(settings, BROKEN_STEP)
    assert "cc: permission denied" in error.message
    assert "registr" not in (error.next_step or "")


@pytest.mark.parametrize(
    "verdict",
    [
        "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
        "error during connect: no route",
    ],
)
def test_an_engine_that_does_not_answer_is_told(settings, verdict):
    error = failure(settings, f"ERROR: {verdict}\n")
    assert "no Docker engine answers" in error.message


def test_a_registry_that_does_not_answer_is_told(settings):
    verdict = 'Get "https://r.example.org/v2/": dial tcp: lookup r.example.org: no such host'
    error = push_failed(settings, "web", "r.example.org/shop/web:1", verdict, verdict)
    assert "r.example.org cannot be used" in error.message
    assert "does r.example.org answer" in (error.next_step or "")
