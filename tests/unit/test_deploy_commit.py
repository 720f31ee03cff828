"""The last step on a server: current, tags, pruning; by a real shell and a stand-in Docker."""

from dataclasses import replace

import pytest
from examples import facts, release, spec
from shells import run
from standin.docker import Docker
from standin.images import Registry
from standin.server import Session

from ops.commands import quote
from ops.deploy.commit import commit, prune
from ops.engines.layout import Layout
from ops.hosts import ConnectionLost, TimedOut


@pytest.fixture
def server(tmp_path, shell):
    """A server with the releases r1 to r4 of one service, each with an image and a file of its own; r3 serves."""

    class Server:
        layout = Layout(str(tmp_path / "it's"), "shop", "production")
        root = tmp_path / "it's" / "shop" / "production"
        registry = Registry()
        docker = Docker(tmp_path / "docker", registry)

        def release(self, number, **fields):
            image = self.registry.images[f"shop/web:{number}"]
            service = spec("web", image=f"shop/web:{number}", pin=f"{image.repository}@{image.digest}")
            own = {"id": f"r{number}", "files": (f"f{number}",), "previous": f"r{number - 1}"}
            return release(service, **{**own, **fields})

        def commit(self, number, keep=2, **fields):
            known = {
                path.name: self.release(int(path.name[1:])).to_json()
                for path in (self.root / "releases").iterdir()
            }
            release = self.release(number, **fields)
            result = self.run(commit(release, self.layout))
            pruning = prune(release, self.layout, facts(releases=known), keep)
            return self.run(pruning) if result.ok and pruning else result

        def run(self, command):
            return run(
                replace(command, script=f"PATH={quote(str(self.docker.pipe.bin))}:$PATH; {command.script}"),
                shell,
            )

        def current(self):
            return (self.root / "current").readlink().as_posix()

        def left(self, folder):
            return sorted(path.name for path in (self.root / folder).iterdir())

    made = Server()
    for number in range(1, 5):
        image = made.registry.publish(f"shop/web:{number}")
        made.docker.images[image.id] = image
        made.docker.tags[f"shop/web:{number}"] = image.id
        if number < 4:
            made.docker.tags[f"opsbook/shop-production/web:r{number}"] = image.id
        for folder in (f"releases/r{number}", f"files/f{number}"):
            (made.root / folder).mkdir(parents=True)
    (made.root / "current").symlink_to("releases/r3")
    yield made
    made.docker.pipe.close()


def tags(server):
    return sorted(tag for tag in server.docker.tags if tag.startswith("opsbook/"))


def test_the_release_becomes_current(server):
    assert server.commit(4).ok
    assert server.current() == "releases/r4"


def test_its_images_get_a_name_that_pruning_respects(server):
    server.commit(4)
    assert "opsbook/shop-production/web:r4" in tags(server)


def test_releases_beyond_those_kept_go_with_files_images_and_names(server):
    server.commit(4)
    assert server.left("releases") == ["r3", "r4"]
    assert server.left("files") == ["f3", "f4"]
    assert tags(server) == ["opsbook/shop-production/web:r3", "opsbook/shop-production/web:r4"]
    assert {image.tag for image in server.docker.images.values()} == {"3", "4"}


def test_the_way_back_stays_however_old(server):
    server.commit(4, previous="r1")
    assert server.left("releases") == ["r1", "r3", "r4"]


def test_an_image_that_another_stack_runs_stays(server):
    image = server.registry.images["shop/web:1"]
    server.docker.tags["opsbook/other-production/web:r9"] = image.id
    server.commit(4)
    assert image.id in server.docker.images


def test_a_file_that_a_kept_release_needs_stays(server):
    server.commit(4, files=("f1", "f4"))
    assert server.left("files") == ["f1", "f3", "f4"]


def test_an_image_that_cannot_be_named_fails_it_and_the_old_release_stays_current(server):
    server.docker.breaks("^tag ", (1, "", "daemon is away\n"))
    result = server.commit(4)
    assert (result.status, result.stderr) == (1, "daemon is away\n")
    assert server.current() == "releases/r3"
    assert server.left("releases") == ["r1", "r2", "r3", "r4"]


def test_pruning_that_fails_fails_nothing(server):
    server.docker.breaks("^image ", (1, "", "in use\n"))
    assert server.commit(4).ok
    assert server.current() == "releases/r4"


def test_doing_it_twice_changes_nothing(server):
    server.commit(4)
    before = server.left("releases"), server.left("files"), dict(server.docker.tags)
    assert server.commit(4).ok
    assert (server.left("releases"), server.left("files"), server.docker.tags) == before


def test_where_all_releases_stay_nothing_is_asked_of_the_server(server):
    known = {"r3": server.release(3).to_json()}
    assert prune(server.release(4), server.layout, facts(releases=known), keep=2) is None


class TestDeploy:
    """Pruning is behind the deploy: what goes wrong there takes nothing back."""

    @pytest.fixture
    def full(self, single):
        """Three releases are kept; the next deploy prunes one."""
        for version in ("2", "3"):
            single.deploy(version, environment="staging")
        return single

    @pytest.mark.parametrize(
        "failure",
        [TimedOut("no end after 120 s", target="web1"), ConnectionLost("gone", target="web1")],
        ids=["too slow", "lost"],
    )
    def test_it_is_a_warning_and_the_release_serves(self, full, failure):
        session = Session()

        def fails():
            raise failure

        session.on("^prune", fails)
        outcome = full.deploy("1", environment="staging", session=session)
        assert full.current("web1", "staging") == outcome.release
        assert outcome.warnings == (f"web1: old releases were not pruned: {failure.message}",)
        assert full.journal("staging")[-1] == ("deploy", "done")
