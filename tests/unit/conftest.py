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
    """Two stand-in servers and a stack of a proxy, a rolling service and a database."""
    made = Shop(tmp_path)
    yield made
    made.close()
