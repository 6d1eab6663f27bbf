"""Probes of the two buckets: they exist and allow every operation of the pipeline.

A probe writes below `_pixel/probe/` and deletes its objects. A later doctor deletes old objects of a doctor that was killed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
import os
import uuid

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.doctor.access import Access
from pixel_pipeline.lake.doctor.probing import Finding, fail, ok, warn
from pixel_pipeline.lake.s3.bucket import PART_BYTES, Bucket
from pixel_pipeline.lake.s3.conditional import race_creates, verdict_of
from pixel_pipeline.lake.s3.control import ControlError
from pixel_pipeline.lake.s3.errors import LakeAccessError

# No running probe is this old.
LEFTOVER_AGE = timedelta(hours=1)
STRAY_UPLOAD_AGE = timedelta(days=1)
RACING_WRITERS = 16


def buckets(access: Access) -> Finding:
    """Check that both buckets exist."""
    missing = []
    for bucket in access.buckets:
        try:
            with access.controlled("list"):
                access.client.list_objects_v2(Bucket=bucket.name, MaxKeys=1)
        except ControlError as error:
            # A refusal is reported by the next probe.
            if error.code in {"NoSuchBucket", "404"}:
                missing.append(bucket.name)
    if missing:
        return fail(
            f"{' and '.join(missing)}: no such bucket",
            "Create it, or set PIXEL_BUCKET and PIXEL_CHECKPOINT_BUCKET to buckets that exist.",
        )
    return ok(" and ".join(bucket.name for bucket in access.buckets))


def listing(access: Access) -> Finding:
    """Check that both buckets can be listed."""
    return _in_each(access, Bucket.check, right="s3:ListBucket", found="both buckets can be listed")


def write(access: Access) -> Finding:
    """Check that objects can be written."""

    def put(bucket: Bucket) -> None:
        with _probe_object(access, bucket, b"pixel doctor"):
            pass

    return _in_each(access, put, right="s3:PutObject", found="an object in each bucket")


def read(access: Access) -> Finding:
    """Check that the bytes read are those that were written."""
    content = os.urandom(64 * 1024)

    def compare(bucket: Bucket) -> Finding | None:
        with _probe_object(access, bucket, content) as key:
            return (
                None
                if bucket.get(key) == content
                else fail(
                    f"the bytes read from {bucket.name} differ from those written",
                    "Look for a proxy or an encoding between this machine and the endpoint that changes content.",
                )
            )

    return _in_each(access, compare, right="s3:GetObject", found="64 KiB in each bucket, equal byte for byte")


def delete(access: Access) -> Finding:
    """Check that deleted objects are gone."""

    def remove(bucket: Bucket) -> Finding | None:
        with _probe_object(access, bucket, b"pixel doctor") as key:
            bucket.delete([key])
            return (
                None
                if not bucket.exists(key)
                else fail(
                    f"a deleted object still exists in {bucket.name}",
                    "Look for an object lock or a retention rule on the bucket.",
                )
            )

    return _in_each(access, remove, right="s3:DeleteObject", found="objects are gone from both buckets")


def multipart(access: Access) -> Finding:
    """Check an object uploaded in two parts, as large ones are."""
    bucket, content = access.lake.data, os.urandom(PART_BYTES + 1)
    try:
        with _probe_object(access, bucket, content) as key:
            same = bucket.get(key) == content
    except LakeAccessError as error:
        return fail(error.message, "Grant s3:PutObject and s3:AbortMultipartUpload; large objects need both.")
    if not same:
        return fail(
            "the bytes read differ from the two parts written",
            "This server is not suitable for large objects.",
        )
    return ok("5 MiB in two parts, equal byte for byte")


def conditional_create(access: Access) -> Finding:
    """Exactly one of many concurrent creates of a key succeeds, as commits to tables require. The lake keeps the verdict."""
    conditional = access.lake.conditional
    winners = {}
    for bucket in access.buckets:
        key = _probe_key()
        with access.making(bucket, key):
            winners[bucket.name] = race_creates(bucket, writers=RACING_WRITERS, key=key)
        conditional.remember(bucket, verdict_of(winners[bucket.name]))
    if any(won != 1 for won in winners.values()):
        counts = ", ".join(f"{won} in {name}" for name, won in winners.items())
        return fail(
            f"of {RACING_WRITERS} concurrent creates of one key exactly 1 must succeed: {counts} did. The server ignores or "
            "refuses If-None-Match, so tables could lose commits",
            "Use a server with conditional writes."
            + (
                " Unset PIXEL_S3_CONDITIONAL_WRITES, which allows commits here."
                if conditional.setting == "on"
                else ""
            ),
        )
    if conditional.setting == "off":
        return warn(
            "the server honours them, but PIXEL_S3_CONDITIONAL_WRITES=off makes the lake read-only",
            "Unset PIXEL_S3_CONDITIONAL_WRITES.",
        )
    return ok(f"{RACING_WRITERS} concurrent creates in each bucket, one winner")


def versioning(access: Access) -> Finding:
    """Check whether a raw object that was replaced by a newer version of its file can be recovered."""
    name = access.lake.data.name
    if access.settings.uses_embedded_s3:
        return ok("off, as always on the embedded server")
    elsewhere = f" --endpoint-url {access.lake.target.endpoint}" if access.lake.target.endpoint else ""
    fix = (
        f"aws s3api put-bucket-versioning --bucket {name} --versioning-configuration Status=Enabled{elsewhere}; with a "
        "lifecycle rule that expires noncurrent versions."
    )
    try:
        with access.controlled("return its versioning"):
            status = access.client.get_bucket_versioning(Bucket=name).get("Status")
    except ControlError as error:
        return warn(
            f"unknown ({error.code})",
            "Grant s3:GetBucketVersioning, or check that it is on.",
        )
    if status == "Enabled":
        return ok(f"on for {name}: a replaced raw object can be recovered")
    state = "suspended" if status == "Suspended" else "off"
    return warn(f"{state} for {name}: a replaced raw object cannot be recovered", fix)


def leftovers(access: Access) -> Finding:
    """Delete the objects of killed doctors, and count unfinished uploads."""
    now = datetime.now(UTC)
    removed, stray = 0, 0
    for bucket in access.buckets:
        old = [item.key for item in bucket.list(keys.PROBES) if now - item.last_modified > LEFTOVER_AGE]
        bucket.delete(old)
        removed += len(old)
        try:
            with access.controlled("list uploads"):
                uploads = access.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
        except ControlError:
            # Some servers cannot list uploads, and nothing depends on it.
            continue
        for upload in uploads:
            age = now - upload["Initiated"]
            if upload["Key"].startswith(f"{keys.PROBES}/") and age > LEFTOVER_AGE:
                with access.controlled("abort an upload"):
                    access.client.abort_multipart_upload(
                        Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                removed += 1
            elif age > STRAY_UPLOAD_AGE:
                stray += 1
    found = f"{removed} objects of a killed doctor deleted" if removed else "no old probe objects"
    if stray:
        return warn(
            f"{found}; {stray} unfinished uploads older than a day use space",
            "Add a lifecycle rule that aborts incomplete multipart uploads after some days.",
        )
    return ok(found)


def _in_each(access: Access, check: Callable[[Bucket], Finding | None], *, right: str, found: str) -> Finding:
    """Run a check in both buckets. It returns a finding if it fails."""
    refused = []
    for bucket in access.buckets:
        try:
            if (problem := check(bucket)) is not None:
                return problem
        except LakeAccessError:
            refused.append(bucket.name)
    if refused:
        names = " and ".join(refused)
        return fail(
            f"refused in {names}",
            f"Grant {right} on {names} to the key pair from {access.lake.target.source}.",
        )
    return ok(found)


def _probe_key() -> str:
    return f"{keys.PROBES}/{uuid.uuid4().hex}"


@contextmanager
def _probe_object(access: Access, bucket: Bucket, content: bytes) -> Iterator[str]:
    key = _probe_key()
    with access.making(bucket, key):
        bucket.put(key, content)
        yield key
