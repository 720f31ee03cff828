"""What is read back from the storage, and what is left where somebody stops reading."""

import gc
import os
import threading
from pathlib import Path

import pyrage
import pytest

from ops.archive.manifest import Part
from ops.archive.reading import opened
from ops.archive.streaming import send
from ops.storage.local import LocalStorage

DATA = os.urandom(5 << 20)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_stream_that_is_left_leaves_nothing_at_work(tmp_path, encrypted, all_of_it):
    """Neither a thread nor a read that is open, and not only once Python looks for such."""
    identity = pyrage.x25519.Identity.generate()
    storage = LocalStorage(tmp_path)
    with storage.upload("a") as upload:
        sent = send([DATA], upload, recipients=[str(identity.to_public())] if encrypted else ())
    part = Part("a", sent.objects, sent.size, sent.sha256, "none", encrypted)
    gc.disable()
    try:
        stream = opened(storage, part, [identity])
        if all_of_it:
            assert b"".join(stream) == DATA
        else:
            next(stream)
        stream.close()
        assert not [one.name for one in threading.enumerate() if one.name.startswith("ops-")]
        assert not [path for path in Path("/proc/self/fd").iterdir() if _leads(path, tmp_path)]
    finally:
        gc.enable()


def _leads(descriptor, folder):
    try:
        return descriptor.readlink().is_relative_to(folder)
    except FileNotFoundError:
        return False
