"""What several unit tests stand on: shells, and stand-in servers with a stack to deploy on them."""

from __future__ import annotations

import shutil

import pytest
from standin.stack import Shop


@pytest.fixture(params=[shell for shell in ("dash", "bash") if shutil.which(shell)])
def shell(request):
    """Each POSIX shell of this machine that a server may have as `sh`."""
    return shutil.which(request.param)


@pytest.fixture
def shop(tmp_path):
    """Two stand-in servers and a stack of a proxy, a rolling service and a database; nothing is deployed."""
    made = Shop(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def _pair(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("pair"))
    made.outcome = made.deploy("1")
    yield made
    made.close()


@pytest.fixture(scope="session")
def _single(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("single"))
    made.deploy("1", environment="staging")
    yield made
    made.close()


@pytest.fixture
def pair(_pair, tmp_path):
    """The same with version 1 on both servers of `production`."""
    made = _pair.copy_to(tmp_path)
    yield made
    made.close()


@pytest.fixture
def single(_single, tmp_path):
    """The same with version 1 on the only server of `staging`."""
    made = _single.copy_to(tmp_path)
    yield made
    made.close()
