"""The storage that ops.toml names, and where in it the backups of a stack stand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ops.config import Settings
from ops.storage.base import Storage

__all__ = ["listed_below", "open_storage", "prefix_now"]


def open_storage(settings: Settings, check: Callable[[], object] = lambda: None) -> Storage:
    """Return the storage; nothing is asked of it yet. `check` is called while it is waited for, and may raise.

    Raises ConfigError for a credential that has no value, StorageFailed for a profile that does not exist.
    """
    backup = settings.config.backup
    if backup.s3 is None:
        from ops.storage.local import LocalStorage

        return LocalStorage((settings.folder / Path(backup.local.path).expanduser()).absolute())
    from ops.storage.s3 import S3Storage

    s3 = backup.s3
    keys = (
        (settings.values.plain(s3.access_key), settings.values.plain(s3.secret_key))
        if s3.access_key
        else None
    )
    return S3Storage(
        s3.bucket,
        endpoint=s3.endpoint,
        region=s3.region,
        path_style=s3.path_style,
        profile=s3.profile,
        credentials=keys,
        storage_class=s3.storage_class,
        checksums=s3.checksums == "auto",
        check=check,
    )


def prefix_now(settings: Settings, host: str) -> str:
    """Return where a backup that is begun now stands; `host` is the state host."""
    now = datetime.now(UTC)
    return _prefix(settings).format(
        host=host, stack=settings.stack, environment=settings.environment, year=f"{now:%Y}", month=f"{now:%m}"
    )


def listed_below(settings: Settings) -> str:
    """Return the longest prefix below which all backups of this stack and environment stand, whatever host and month."""
    template = (
        _prefix(settings).replace("{stack}", settings.stack).replace("{environment}", settings.environment)
    )
    fixed, more, _ = template.partition("{")
    return fixed if more else f"{fixed}/"


def _prefix(settings: Settings) -> str:
    s3 = settings.config.backup.s3
    return s3.prefix.strip("/") if s3 is not None else "{stack}/{environment}"
