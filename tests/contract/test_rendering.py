"""Deploy, build and init read the same compose files as the real docker compose in the stack folder does."""

import json
import re
import shutil
import subprocess

import pytest

from ops.build.rendering import resolved_model
from ops.commands import Command, Result
from ops.config import load, stack_sources
from ops.config.closure import read_files
from ops.config.dotenv import compose_form
from ops.engines.layout import Layout
from ops.engines.mounts import StackFolder
from ops.engines.rendering import parse_rendered, render_command
from ops.hosts.fake import FakeHost
from ops.project import check
from ops.project.rendering import render_project

FILES = {
    "compose/compose.yaml": """
include: [parts/cache.yaml]
services:
  api:
    image: api
    build: ./api
    env_file: api.env
    extends: {file: ../base.yaml, service: base}
    volumes: ["./init:/init:ro", "../shared:/shared:ro"]
    secrets: [key]
secrets: {key: {file: ./key.pem}}
""",
    "compose/parts/cache.yaml": 'services: {cache: {image: cache, env_file: cache.env, volumes: ["./data:/data"]}}\n',
    "deploy/over.yaml": 'services: {api: {volumes: ["./more:/more:ro"]}}\n',
    "base.yaml": 'services: {base: {volumes: ["./of-base:/of-base"]}}\n',
    "compose/api.env": "A=1\n",
    "compose/parts/cache.env": "B=1\n",
    "compose/key.pem": "key\n",
}


def run(command: Command) -> Result:
    done = subprocess.run(["sh", "-c", command.script], input=command.stdin, capture_output=True, check=False)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def settings(tmp_path):
    """A stack whose compose files stand in folders of their own."""
    if shutil.which("docker") is None or not run(Command("docker compose version")).ok:
        pytest.skip("docker compose is not installed here")
    for name, text in FILES.items():
        path = tmp_path / "stack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "stack" / "ops.toml").write_text(
        'stack = "shop"\nproject = "shop"\nfiles = ["compose/compose.yaml", "deploy/over.yaml"]\n[environments.staging]\n'
    )
    return load("staging", start=tmp_path / "stack")


@pytest.fixture
def plain(settings):
    """What `docker compose config` makes of it in the stack folder, the folder's own path taken out."""
    line = "docker compose -p shop -f compose/compose.yaml -f deploy/over.yaml config --format json"
    done = subprocess.run(line.split(), cwd=settings.folder, capture_output=True, check=True)
    return relative(json.loads(done.stdout), settings.folder)


def relative(model, folder):
    return json.loads(json.dumps(model).replace(str(folder), "."))


def test_a_deploy_reads_compose_files_in_a_subfolder_as_compose_does(settings, plain):
    sources = [(source.path, source.content) for source in stack_sources(settings)]
    result = run(render_command(sources, settings.config.files, (), "shop", compose_form({})))
    assert result.ok, result.stderr
    folder, model = parse_rendered(result.stdout)
    assert relative(model, folder) == plain


def test_a_path_beside_the_stack_folder_is_told_from_one_of_the_server(settings):
    text = "services: {api: {image: a, volumes: ['../shared:/s', '/srv/shared:/t']}}\n"
    result = run(render_command([("compose.yaml", text.encode())], ["compose.yaml"], (), "shop", ""))
    folder, model = parse_rendered(result.stdout)
    stack = StackFolder(folder, settings, Layout("/opt", "shop", "staging"), None)
    sources = [volume["source"] for volume in model["services"]["api"]["volumes"]]
    assert [bool(stack.strayed(source)) for source in sources] == [True, False]


def test_a_build_reads_compose_files_in_a_subfolder_as_compose_does(settings, plain, tmp_path):
    if not run(Command("docker buildx version")).ok:
        pytest.skip("docker buildx is not installed here")
    host = FakeHost("here").expect(re.compile("config --format json"), answer=run)
    assert relative(resolved_model(settings, host, "1", tmp_path), settings.folder) == plain


def test_init_reads_compose_files_in_a_subfolder_as_compose_does(settings, plain):
    rendered = render_project(settings.folder, settings.compose_files, read_files(settings), {}, run)
    mounts = {name: body.get("volumes") for name, body in plain["services"].items()}
    found = relative(rendered.model, rendered.directory)["services"]
    assert {name: body.get("volumes") for name, body in found.items()} == mounts
    assert found["api"]["build"] == plain["services"]["api"]["build"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("image: api", "imgae: api", "imgae"),
        ("env_file: api.env", "depends_on: [redis]", "redis"),
    ],
)
def test_a_check_finds_what_compose_refuses(settings, tmp_path, old, new, told):
    with_server = '[environments.staging.servers.web1]\naddress = "web1.test"\n'
    (tmp_path / "stack" / "ops.toml").write_text(
        'stack = "shop"\nproject = "shop"\nfiles = ["compose/compose.yaml"]\n' + with_server
    )
    assert check(load("staging", start=tmp_path / "stack"), run).ok
    file = tmp_path / "stack" / "compose" / "compose.yaml"
    file.write_text(file.read_text().replace(old, new))
    found = check(load("staging", start=tmp_path / "stack"), run)
    assert found.compose
    assert told in str(found.problems[0])
