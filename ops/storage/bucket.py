"""What a bucket can do and what rules it keeps itself; the part of S3 that is asked for once, not at each backup."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from ops.storage.base import Finding, StorageFailed, Wishes

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CreateBucketRequestTypeDef

    from ops.storage.s3 import S3Storage

__all__ = ["examine", "merged", "own_rule", "prepare"]

ABORTED = 2  # days after which the bucket ends an upload that nobody finished
HIDDEN = 30  # days for which what was deleted from a bucket with versions can be brought back
Rule = Mapping[str, Any]


def examine(storage: S3Storage, wishes: Wishes) -> tuple[Finding, ...]:
    """Return what the bucket can do and keeps, the first fault last where nothing more can be asked.

    An object is written below the prefix, listed, read and removed. Raises StorageFailed where the service itself does
    not answer.
    """
    code = _code(storage, "see the bucket", lambda: storage.client.head_bucket(Bucket=storage.bucket))
    if code is not None:
        told = "there is none of that name" if code in ("404", "NoSuchBucket") else f"cannot be seen: {code}"
        return (Finding("bucket", False, told),)
    found = [Finding("bucket", True, "there"), *_probe(storage, wishes.now)]
    versions = _versions(storage)
    found.append(Finding("versioning", None, "on" if versions else "off"))
    found.append(_lock(storage, wishes))
    rules = _rules(storage)
    if isinstance(rules, str):
        return (*found, Finding("lifecycle", None, f"no rules can be looked at: {rules}"))
    ended = next((rule for rule in rules if _covers(rule, wishes.now)), None)
    if ended is not None:
        days = ended["AbortIncompleteMultipartUpload"].get("DaysAfterInitiation")
        found.append(
            Finding("aborted uploads", True, f"ended after {days} day(s) by rule {ended.get('ID', '')}")
        )
    else:
        found.append(
            Finding("aborted uploads", False, "no rule ends them, so they are paid for until somebody does")
        )
    if wishes.moves is not None:
        own = next((rule for rule in rules if rule.get("ID") == wishes.rule), {})
        wanted = [{"Days": wishes.moves[0], "StorageClass": wishes.moves[1]}]
        is_there = own.get("Status") == "Enabled" and own.get("Transitions") == wanted
        told = f"to {wishes.moves[1]} after {wishes.moves[0]} day(s): {'by our rule' if is_there else 'no rule does it'}"
        found.append(Finding("storage class", is_there, told))
    return tuple(found)


def prepare(
    storage: S3Storage, wishes: Wishes, *, create: bool, apply: bool, really: bool
) -> tuple[str, ...]:
    """Make the bucket where it is not there (`create`), put our own rule among those of others (`apply`); return what
    was done, or would be."""
    done = []
    code = _code(storage, "see the bucket", lambda: storage.client.head_bucket(Bucket=storage.bucket))
    there = code not in ("404", "NoSuchBucket")
    if create and not there:
        done.append(f"create {storage.shown}{' with object lock' if storage.lock else ''}")
        if really:
            _create(storage)
            there = True
    if apply:
        if wishes.prefix is None:
            raise StorageFailed(
                f"{storage.shown}: a rule for these backups would be one for other people's as well",
                next_step="put {stack} and {environment} before the time in [backup.s3] prefix, or keep such a rule yourself",
            )
        own = own_rule(wishes, wishes.prefix, there and _versions(storage))
        rules = _rules(storage) if there else ()
        if isinstance(rules, str):
            raise StorageFailed(f"{storage.shown}: its lifecycle rules cannot be looked at: {rules}")
        if next((rule for rule in rules if rule.get("ID") == wishes.rule), None) != own:
            done.append(f"put the rule {wishes.rule}: {_said(own)}")
            if really:
                _put_rules(storage, merged(rules, own))
    return tuple(done)


def own_rule(wishes: Wishes, prefix: str, versions: bool) -> Rule:
    """Return the rule that a bucket should keep for the backups below a prefix."""
    rule: dict[str, Any] = {
        "ID": wishes.rule,
        "Filter": {"Prefix": prefix},
        "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORTED},
    }
    if wishes.moves is not None:
        rule["Transitions"] = [{"Days": wishes.moves[0], "StorageClass": wishes.moves[1]}]
    if versions:  # or what a pruning deletes would be kept, and paid for, for ever
        rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": HIDDEN}
    return rule


def merged(rules: Sequence[Rule], own: Rule) -> list[Rule]:
    """Return the rules with our own in its place, or behind the others, which stay as they are."""
    if not any(rule.get("ID") == own["ID"] for rule in rules):
        return [*rules, own]
    return [own if rule.get("ID") == own["ID"] else rule for rule in rules]


def _probe(storage: S3Storage, prefix: str) -> Iterator[Finding]:
    """Try what a backup and a pruning do; whatever came of it, nothing that can be seen is left."""
    client, bucket = storage.client, storage.bucket
    key = f"{prefix}.opsbook-probe-{secrets.token_hex(4)}"
    try:
        for name, call in (
            ("write", lambda: client.put_object(Bucket=bucket, Key=key, Body=b"probe")),
            ("list", lambda: client.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]),
            ("read", lambda: client.get_object(Bucket=bucket, Key=key)["Body"].read()),
            ("delete", lambda: client.delete_object(Bucket=bucket, Key=key)),
        ):
            try:
                call()
            except KeyError:
                yield Finding(name, False, "what was written is not listed")
                continue
            except (BotoCoreError, ClientError) as error:
                yield Finding(name, False, storage.reason(error))
                if name == "write":
                    break
                continue
            yield Finding(name, True, "works")
        yield _multipart(storage, key)
    finally:
        _forget(storage, key)


def _multipart(storage: S3Storage, key: str) -> Finding:
    client, bucket = storage.client, storage.bucket
    try:
        begun = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=begun)
    except (BotoCoreError, ClientError) as error:
        return Finding("uploads in parts", False, storage.reason(error))
    return Finding("uploads in parts", True, "can be begun and ended")


def _forget(storage: S3Storage, key: str) -> None:
    """Remove the probe, with its versions where the bucket keeps them; one that a default lock holds stays, hidden."""
    client, bucket = storage.client, storage.bucket
    with suppress(BotoCoreError, ClientError):
        client.delete_object(Bucket=bucket, Key=key)
    with suppress(BotoCoreError, ClientError):
        answer = client.list_object_versions(Bucket=bucket, Prefix=key)
        versions = [*answer.get("Versions", ())]
        markers = [*answer.get("DeleteMarkers", ())]
        for version in versions:
            client.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
        for marker in markers:  # while a version stays, its marker hides it
            client.delete_object(Bucket=bucket, Key=key, VersionId=marker["VersionId"])


def _versions(storage: S3Storage) -> bool:
    with suppress(ClientError):
        return storage.client.get_bucket_versioning(Bucket=storage.bucket).get("Status") == "Enabled"
    return False


def _lock(storage: S3Storage, wishes: Wishes) -> Finding:
    try:
        found = storage.client.get_object_lock_configuration(Bucket=storage.bucket)
        config = found.get("ObjectLockConfiguration", {})
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if "NotFound" not in code:
            return Finding("object lock", None, f"cannot be looked at: {storage.reason(error)}")
        config = {}
    is_on = config.get("ObjectLockEnabled") == "Enabled"
    default = config.get("Rule", {}).get("DefaultRetention", {})
    told = "on" if is_on else "off"
    if default:
        length = f"{default['Days']} day(s)" if "Days" in default else f"{default.get('Years')} year(s)"
        told += f"; by default {str(default.get('Mode', '')).lower()} for {length}"
    if storage.lock is None:
        return Finding("object lock", None, told)
    wanted = f"{storage.lock[0].lower()} for {storage.lock[1]} day(s)"
    if is_on:
        return Finding("object lock", True, f"{told}; backups are locked: {wanted}")
    return Finding(
        "object lock",
        False,
        f"off, and backups are to be locked, {wanted}: it comes with the bucket's creation",
    )


def _rules(storage: S3Storage) -> Sequence[Rule] | str:
    """Return the bucket's rules, or why they cannot be looked at."""
    try:
        found = storage.client.get_bucket_lifecycle_configuration(Bucket=storage.bucket)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        return () if code == "NoSuchLifecycleConfiguration" else storage.reason(error)
    return cast("Sequence[Rule]", found.get("Rules", ()))


def _put_rules(storage: S3Storage, rules: list[Rule]) -> None:
    with storage.told("put the lifecycle rules"):
        storage.client.put_bucket_lifecycle_configuration(
            Bucket=storage.bucket,
            LifecycleConfiguration={"Rules": rules},  # type: ignore[typeddict-item]  # as the service told them
        )


def _create(storage: S3Storage) -> None:
    request: CreateBucketRequestTypeDef = {"Bucket": storage.bucket}
    region = storage.client.meta.region_name
    if region not in ("us-east-1", "aws-global"):  # Amazon refuses its oldest region by name
        request["CreateBucketConfiguration"] = {"LocationConstraint": cast(Any, region)}
    if storage.lock is not None:
        request["ObjectLockEnabledForBucket"] = True
    with storage.told("create the bucket"):
        storage.client.create_bucket(**request)


def _covers(rule: Rule, prefix: str) -> bool:
    """Whether a rule ends the unfinished uploads below a prefix."""
    if rule.get("Status") != "Enabled" or "AbortIncompleteMultipartUpload" not in rule:
        return False
    asked = rule.get("Filter", {"Prefix": rule.get("Prefix", "")})
    return set(asked) <= {"Prefix"} and prefix.startswith(asked.get("Prefix", ""))


def _said(rule: Rule) -> str:
    parts = [f"uploads below {rule['Filter']['Prefix']} that nobody finished end after {ABORTED} days"]
    for move in rule.get("Transitions", ()):
        parts.append(f"objects go to {move['StorageClass']} after {move['Days']} days")
    if "NoncurrentVersionExpiration" in rule:
        parts.append(f"what was deleted is gone after {HIDDEN} days")
    return ", ".join(parts)


def _code(storage: S3Storage, what: str, call: Any) -> str | None:
    """Return the code of a refusal, None where there was none; raises StorageFailed where no answer came."""
    with storage.told(what):
        try:
            call()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
                raise
            return code
    return None
