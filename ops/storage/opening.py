"""The storage that ops.toml names, and where in it the backups of a stack stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ops.config import Settings
from ops.errors import ConfigError
from ops.storage.base import Storage, Wishes

__all__ = ["listed_below", "open_storage", "prefix_now", "wishes_of", "written_by"]

_FIXED = {"year": "[0-9]{4}", "month": "[0-9]{2}", "host": "[^/]+"}
_RUN = "[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}"
_PROBE = r"(\.unfinished-[0-9a-f]+-)?\.opsbook-probe-[0-9a-f]+"


def open_storage(settings: Settings, check: Callable[[], object] = lambda: None) -> Storage:
    """Return the storage; nothing is asked of it yet. `check` is called while it is waited for, and may raise.

    Raises ConfigError for a credential that has no value, StorageFailed for a profile that does not exist.
    """
    backup = settings.config.backup
    if backup.s3 is None:
        from ops.storage.local import LocalStorage

        try:
            path = Path(backup.local.path).expanduser()
        except RuntimeError as error:  # there is no such user
            raise ConfigError(f"[backup.local] path = {backup.local.path!r}: {error}") from None
        return LocalStorage((settings.folder / path).absolute())
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
        lock=("GOVERNANCE" if s3.lock_mode == "governance" else "COMPLIANCE", s3.lock_days)
        if s3.lock_days
        else None,
        check=check,
    )


def prefix_now(settings: Settings, host: str) -> str:
    """Return where a backup that is begun now stands; `host` is the state host."""
    now = datetime.now(UTC)
    return _prefix(settings).format(
        host=host, stack=settings.stack, environment=settings.environment, year=f"{now:%Y}", month=f"{now:%m}"
    )


def wishes_of(settings: Settings, host: str) -> Wishes:
    """Return what the storage should keep by itself for the backups of this stack and environment; `host` is the state
    host. Where a time stands before their names, no rule of a bucket can tell them from other people's."""
    template = _prefix(settings)
    fixed, timed, _ = re.sub(r"{(year|month)}", "\0", template).partition("\0")
    fixed = fixed[: fixed.rfind("/") + 1] if timed else f"{fixed}/"
    own = "{stack}" in fixed and "{environment}" in fixed
    below = fixed.format(host=host, stack=settings.stack, environment=settings.environment) if own else None
    s3 = settings.config.backup.s3
    return Wishes(
        f"{prefix_now(settings, host)}/",
        below,
        f"opsbook-{settings.stack}-{settings.environment}",
        (s3.transition_days, s3.transition_class) if s3 is not None and s3.transition_days else None,
    )


def listed_below(settings: Settings) -> str:
    """Return the longest prefix below which all backups of this stack and environment stand, whatever host and month."""
    template = (
        _prefix(settings).replace("{stack}", settings.stack).replace("{environment}", settings.environment)
    )
    fixed, more, _ = template.partition("{")
    return fixed if more else f"{fixed}/"


def written_by(settings: Settings) -> Callable[[str], bool]:
    """Return whether a key is one that a backup of this stack and environment has, whatever host and month.

    Below `listed_below` there may be anything: where a prefix begins with `{host}`, that is the whole bucket.
    """
    values = {**_FIXED, "stack": re.escape(settings.stack), "environment": re.escape(settings.environment)}
    words = re.split(r"{(\w+)}", _prefix(settings))
    fixed = "".join(values[word] if number % 2 else re.escape(word) for number, word in enumerate(words))
    key = re.compile(f"{fixed}/({_RUN}/[^/]+|{_PROBE})")
    return lambda text: key.fullmatch(text) is not None


def _prefix(settings: Settings) -> str:
    s3 = settings.config.backup.s3
    return s3.prefix.strip("/") if s3 is not None else "{stack}/{environment}"
