"""The shape of `[backup]` and `[datastores]` in ops.toml."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ops.config.fields import Model, Name

__all__ = [
    "S3",
    "Backup",
    "Datastores",
    "Files",
    "Keep",
    "Local",
    "Maintenance",
    "MongoDB",
    "Ping",
    "Postgres",
    "Qdrant",
    "Redis",
    "Restore",
]

PLACEHOLDERS = ("host", "stack", "environment", "year", "month")


class Local(Model):
    """Backups in a folder of the machine that runs Opsbook; where there is no `[backup.s3]`, this is the storage."""

    path: str = Field(default=".ops/backups", description="The folder, relative to ops.toml.")


class S3(Model):
    """Backups in a bucket of S3 or a compatible service."""

    bucket: str = Field(description="The bucket's name.")
    endpoint: str = Field(
        default="", description="URL of a compatible service; empty means Amazon's own for the region."
    )
    region: str = Field(default="", description="Region; empty leaves it to the profile or the environment.")
    path_style: bool = Field(
        default=False,
        description="Put the bucket into the path, not into the host name; most compatible services want it.",
    )
    profile: str = Field(default="", description="Profile of the AWS configuration files.")
    access_key: str = Field(
        default="",
        description="`env:NAME`; empty leaves the credentials to the environment, the profile or the machine's role.",
    )
    secret_key: str = Field(default="", description="`env:NAME`, beside `access_key`.")
    storage_class: str = Field(default="STANDARD", description="Storage class of dumps, such as STANDARD_IA.")
    checksums: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto` sends a checksum with each part, which Amazon and most others check; `off` is for services that refuse it.",
    )
    lock_days: int = Field(
        default=0,
        ge=0,
        description="Days for which the bucket itself keeps each object from being deleted (object lock); 0 locks none.",
    )
    lock_mode: Literal["governance", "compliance"] = Field(
        default="governance",
        description="Whether those with a special right may end a lock early, or nobody.",
    )
    transition_days: int = Field(
        default=0,
        ge=0,
        description="Days after which the bucket moves objects to `transition_class`, by the rule that `backup.prepare` puts; 0 moves none.",
    )
    transition_class: str = Field(
        default="STANDARD_IA", description="Storage class that they go to, such as GLACIER_IR."
    )
    prefix: str = Field(
        default="{stack}/{environment}",
        description="Where backups stand in the bucket: {host} (the state host), {stack}, {environment}, {year}, {month}.",
    )

    @field_validator("access_key", "secret_key")
    @classmethod
    def _stands_elsewhere(cls, value: str) -> str:
        if value and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError('must be "env:NAME": a credential does not belong into ops.toml')
        return value

    @field_validator("prefix")
    @classmethod
    def _names_stack_and_environment(cls, value: str) -> str:
        unknown = [name for name in re.findall(r"{([^{}]*)}", value) if name not in PLACEHOLDERS]
        if unknown:
            raise ValueError(
                f"{{{unknown[0]}}} is not known; known: {', '.join(f'{{{n}}}' for n in PLACEHOLDERS)}"
            )
        if "{stack}" not in value or "{environment}" not in value:
            raise ValueError(
                "must hold {stack} and {environment}: backups of two must never stand in one place"
            )
        return value

    @model_validator(mode="after")
    def _lock_has_checksums(self) -> S3:
        if self.lock_days and self.checksums == "off":
            raise ValueError('lock_days needs checksums = "auto": S3 locks nothing that came without one')
        return self

    @model_validator(mode="after")
    def _both_or_none(self) -> S3:
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("give both access_key and secret_key, or neither")
        return self


class Ping(Model):
    """Whose watch fails when no backup comes: a dead man's switch that takes pings as Healthchecks does.

    Each key is a URL or `env:NAME`, one for each schedule, since one that is pinged by two would not miss either. Whoever
    has a URL may ping, so it is masked like a secret.
    """

    url: str = Field(
        default="",
        description="Pinged by `backup.full` of all datastores: /start, then the URL itself, or /fail, with the end of the log.",
    )
    incremental: str = Field(default="", description="The same for increments.")
    verify: str = Field(
        default="",
        description="The same for `backup.verify` of all backups; a damaged one is a failure.",
    )
    drill: str = Field(default="", description="The same for drills of a restore.")

    @field_validator("url", "incremental", "verify", "drill")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|https?://[!-~]+", value):
            raise ValueError('must be "env:NAME", or a URL that begins with https:// or http://')
        return value


class Keep(Model):
    """Which backups stay: those that any of these keys wants; with none of them, all. Damaged ones stay and are not counted."""

    count: int = Field(default=0, ge=0, description="The newest so many.")
    days: int = Field(
        default=0, ge=0, description="The newest of each of the last so many days that have one, in UTC."
    )
    weeks: int = Field(default=0, ge=0, description="The same of weeks, which begin on Monday.")
    months: int = Field(default=0, ge=0, description="The same of months.")
    years: int = Field(default=0, ge=0, description="The same of years.")
    min: int = Field(
        default=3, ge=1, description="Never fewer good ones than this, whatever the other keys say."
    )

    @property
    def any(self) -> bool:
        """True when there is a rule at all."""
        return bool(self.count or self.days or self.weeks or self.months or self.years)


class Maintenance(Model):
    """How writes are paused while a consistent backup is taken; lines of POSIX shell, run in the folder of the release."""

    enter: str = Field(min_length=1, description="Pauses writes, such as `docker compose exec -T api pause`.")
    leave: str = Field(
        min_length=1,
        description="Lets writes go on. It runs whatever happens, also where `enter` failed half-way, and may find nothing paused.",
    )
    where: Literal["state_host", "servers"] = Field(
        default="servers", description="The state host, or each server."
    )
    limit: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that writes may be paused; the server itself lets them go on then, and the backup fails.",
    )


class Backup(Model):
    """How backups are taken and where they go."""

    local: Local = Field(default_factory=Local)
    s3: S3 | None = None
    keep: Keep = Field(default_factory=Keep)
    ping: Ping | None = None
    verify: Literal[0, 1] = Field(
        default=0,
        description="How a new backup is verified before old ones go: 0, all objects are there in their size; 1, all are read again and hashed.",
    )
    rpo: float = Field(
        default=86400.0,
        gt=0,
        description="Seconds of data that may be lost: the age of the newest good backup up to which `backup.status` is content.",
    )
    rto: float = Field(
        default=14400.0,
        gt=0,
        description="Seconds that a restore may take: what `restore.drill` compares its own time with.",
    )
    consistent: bool = Field(
        default=False,
        description="Take all datastores at one point: writes are paused by `[backup.maintenance]` for as long as the dumps take.",
    )
    maintenance: Maintenance | None = None
    beside_deploy: bool = Field(
        default=True,
        description="Whether a backup may be taken while a deploy migrates and switches. If not, who comes second waits for "
        "`--wait` seconds, then ends with exit code 5.",
    )
    compress: Literal["auto", "engine", "server", "operator", "none"] = Field(
        default="auto",
        description="Where dumps are compressed: by the datastore's own tool, by zstd on the server, on this machine, or nowhere. "
        "`auto` takes the first of them that is there.",
    )
    recipients: tuple[str, ...] = Field(
        default=(),
        description="Public keys of age (`age1…`, or SSH public keys) that backups are encrypted for; none leaves them as they are. "
        "The private key belongs neither here nor on a server.",
    )
    level: int = Field(default=3, ge=1, le=19, description="Level of zstd.")
    threads: int = Field(
        default=0, ge=0, description="Threads of zstd on the server or here; 0 means one for each core."
    )

    @model_validator(mode="after")
    def _consistent_by_something(self) -> Backup:
        if self.consistent and self.maintenance is None:
            raise ValueError("consistent needs a [backup.maintenance] that says how writes are paused")
        return self


class Restore(Model):
    """What stands around a restore."""

    writers: tuple[Name, ...] | None = Field(
        default=None,
        description="Services that are stopped while what was restored takes the place of what was live, and have to be "
        "healthy behind it; where nothing is said, all but the proxy and those that hold the data. `[]` stops none.",
    )


class _InContainer(Model):
    service: Name = Field(description="Its service of the compose files.")
    server: Name | None = Field(
        default=None, description="Its server, where the service runs on more than one."
    )


class Postgres(_InContainer):
    """A PostgreSQL server in a container of the stack."""

    user: str = Field(
        default="", description="Superuser; empty means the container's POSTGRES_USER, else `postgres`."
    )
    databases: tuple[str, ...] = Field(
        default=(), description="Databases to dump; none means all but the templates."
    )
    point_in_time: bool = Field(
        default=False,
        description="Hold back the write-ahead log, so that `backup.incremental` can ship it and the whole cluster can be "
        "brought back to any moment. PostgreSQL 13 or newer.",
    )
    wal_keep: str = Field(
        default="4GB",
        pattern=r"^[1-9][0-9]*(MB|GB|TB)$",
        description="What the log that no backup holds yet may take of the server's disk. Past that the server lets go of it, "
        "and a full backup has to begin anew. A lower max_slot_wal_keep_size that is set on the server stays.",
    )


class Redis(_InContainer):
    """A Redis server in a container of the stack. Its password is taken from the container, wherever that has it."""


class Qdrant(_InContainer):
    """A Qdrant server in a container of the stack. Its key is taken from the container; the server needs curl."""


class MongoDB(_InContainer):
    """A MongoDB server in a container of the stack. Its user is that of MONGO_INITDB_ROOT_USERNAME and _PASSWORD there."""

    databases: tuple[str, ...] = Field(
        default=(), description="Databases to dump; none means all but admin, config and local."
    )
    increments: bool = Field(
        default=False,
        description="Let `backup.incremental` take what the oplog has since the last backup, so that all databases can be "
        "brought back to any moment. It needs a replica set, which may be a single server.",
    )

    @model_validator(mode="after")
    def _increments_of_all(self) -> MongoDB:
        if self.increments and self.databases:
            raise ValueError(
                "increments are of all databases, because a transaction may be of several: take databases out"
            )
        return self


class Files(Model):
    """A folder on a server."""

    path: str = Field(
        description="The folder: relative to shared/ of the stack on the server, or an absolute path."
    )
    server: Name | None = Field(default=None, description="Its server, where the stack has more than one.")
    include: tuple[str, ...] = Field(
        default=(),
        description="Globs of what to take, relative to the folder; none means all. `*` matches `/` too.",
    )
    exclude: tuple[str, ...] = Field(default=(), description="Globs of what to leave out.")
    increments: bool = Field(
        default=False,
        description="Let `backup.incremental` take what changed alone. Without it the whole folder is taken.",
    )

    @field_validator("path")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        parts = value.split("/")
        if not value or "\n" in value or ".." in parts or value == "/":
            raise ValueError("must be a folder: neither empty nor / nor one with .. in it")
        return value


class Datastores(Model):
    """What a backup holds; the names must differ also between kinds."""

    postgres: dict[Name, Postgres] = Field(default_factory=dict)
    redis: dict[Name, Redis] = Field(default_factory=dict)
    qdrant: dict[Name, Qdrant] = Field(default_factory=dict)
    mongodb: dict[Name, MongoDB] = Field(default_factory=dict)
    files: dict[Name, Files] = Field(default_factory=dict)

    @property
    def every(self) -> tuple[tuple[str, str, Postgres | Redis | Qdrant | MongoDB | Files], ...]:
        """All of them: kind, name and what is written of each."""
        return tuple(
            (kind, name, one) for kind in type(self).model_fields for name, one in getattr(self, kind).items()
        )

    @property
    def services(self) -> frozenset[str]:
        """The services that hold the data."""
        return frozenset(one.service for _, _, one in self.every if not isinstance(one, Files))

    @model_validator(mode="after")
    def _one_log_each(self) -> Datastores:
        held: dict[tuple[str, str | None], str] = {}
        for name, one in self.postgres.items():
            if one.point_in_time and (other := held.setdefault((one.service, one.server), name)) != name:
                raise ValueError(
                    f"{other} and {name} both have point_in_time, and the log of {one.service} is one: set it at one of them"
                )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Datastores:
        names = [name for _, name, _ in self.every]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two datastores are called {twice!r}")
        return self
