"""Streams into a storage: packed, encrypted, and never published when their source fails."""

import hashlib
import os

import pyrage
import pytest
import zstandard

from ops.archive.streaming import checked_recipients, send
from ops.errors import ConfigError
from ops.storage.local import LocalStorage

DATA = b"the same line again and again\n" * 20_000


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "backups")


def pieces(data=DATA, size=100_000, error=None):
    for at in range(0, len(data), size):
        yield data[at : at + size]
    if error is not None:
        raise error


def sent(storage, chunks, **how):
    with storage.upload("db.dump") as upload:
        return send(chunks, upload, **how)


def stored(storage):
    return b"".join(storage.read("db.dump"))


def test_a_stream_is_stored_as_it_comes(storage):
    found = sent(storage, pieces())
    assert stored(storage) == DATA
    assert (found.size, found.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert [(one.size, one.sha256) for one in found.objects] == [(found.size, found.sha256)]


def test_an_empty_stream_is_a_backup_of_nothing(storage):
    assert sent(storage, iter(())).size == 0
    assert stored(storage) == b""


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_stream_that_nobody_packed_is_packed_here(storage, threads):
    found = sent(storage, pieces(), level=3, threads=threads)
    assert zstandard.ZstdDecompressor().stream_reader(stored(storage)).read() == DATA
    assert found.size == len(stored(storage)) < len(DATA) / 100


@pytest.mark.parametrize("level", [None, 3])
@pytest.mark.parametrize("data", [b"", b"x", os.urandom(300_000)])
def test_an_encrypted_stream_can_be_read_with_the_identity_alone(storage, level, data):
    identity = pyrage.x25519.Identity.generate()
    found = sent(storage, pieces(data), level=level, recipients=[str(identity.to_public())])
    opened = pyrage.decrypt(stored(storage), [identity])
    assert (found.size, found.sha256) == (len(opened), hashlib.sha256(opened).hexdigest())
    assert (opened if level is None else zstandard.ZstdDecompressor().stream_reader(opened).read()) == data
    assert found.objects[0].size == len(stored(storage)) > found.size


def test_nothing_of_an_encrypted_stream_is_stored_as_it_was(storage):
    sent(storage, pieces(), recipients=[str(pyrage.x25519.Identity.generate().to_public())])
    assert b"the same line" not in stored(storage)


class Broken(Exception):
    """What a dump raises that ends with a failure behind its last byte."""


@pytest.mark.parametrize("level", [None, 3])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_stream_whose_source_fails_at_its_very_end_is_not_published(storage, level, encrypted):
    recipients = [str(pyrage.x25519.Identity.generate().to_public())] if encrypted else []
    with pytest.raises(Broken):
        sent(storage, pieces(error=Broken()), level=level, recipients=recipients)
    assert list(storage.items("")) == []


class Full:
    """An upload that takes nothing."""

    written = (0, "")

    def write(self, data):
        raise Broken

    def finish(self):
        raise AssertionError


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_the_storage_raises_comes_out_as_it_is(encrypted):
    recipients = [str(pyrage.x25519.Identity.generate().to_public())] if encrypted else []
    with pytest.raises(Broken):
        send(pieces(), Full(), recipients=recipients)


@pytest.mark.parametrize("text", ["age1nonsense", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1", ""])
def test_what_is_no_recipient_is_refused(text):
    with pytest.raises(ConfigError, match="no recipient of age"):
        checked_recipients([text])


def test_a_private_key_in_place_of_a_recipient_is_not_repeated():
    key = str(pyrage.x25519.Identity.generate())
    with pytest.raises(ConfigError) as failure:
        checked_recipients([key])
    assert key[:20] not in str(failure.value)
