"""The sandbox's servers, and real images on them: `scripts/test --upstream-images` runs what is here, and nothing else does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))

from stacks import SERVERS

from ops import sandbox as boxes


@pytest.fixture(scope="session")
def sandbox() -> boxes.Sandbox:
    """The running sandbox with its three servers, on real images; anything else is a failure."""
    if os.environ.get("OPS_SANDBOX_IMAGES") != "upstream":
        pytest.fail("these tests are for real images: scripts/test --upstream-images")
    return boxes.up(SERVERS, say=lambda text: None)
