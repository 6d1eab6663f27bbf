"""Errors of the S3 client, told in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager
import re

from obstore import exceptions as s3_errors

from pixel_pipeline.lake.errors import (
    LakeAccessError,
    LakeUnreachableError,
    LakeWriteError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from pixel_pipeline.lake.target import Target


@contextmanager
def translated(operation: str, *, key: str, bucket: str, target: Target) -> Iterator[None]:
    """Raise every error of the S3 client as one of `lake.errors`, naming operation, object and what to do."""
    uri = f"s3://{bucket}/{key}"
    where = f"S3 at {target.endpoint}" if target.endpoint else f"S3 in {target.region}"
    # `from None`: the library's messages repeat request URLs and response bodies, with key ids in them.
    try:
        yield
    except (s3_errors.NotFoundError, FileNotFoundError) as error:
        if _s3_code(error) == "NoSuchBucket":
            raise _missing_bucket(bucket, where=where) from None
        raise ObjectNotFoundError(f"There is no object {uri}.") from None
    except s3_errors.PreconditionError:
        raise ObjectChangedError(
            f"{uri} is no longer the version that was listed.",
            hint="Run again to take up the new version.",
        ) from None
    except s3_errors.AlreadyExistsError:
        raise ObjectExistsError(f"{uri} exists already.") from None
    except (s3_errors.UnauthenticatedError, s3_errors.PermissionDeniedError) as error:
        raise LakeAccessError(
            f"{where} refused to {operation} {uri}: {_s3_code(error) or 'access denied'}.",
            hint=f"Check the credentials (from {target.source}) and their rights on the bucket.",
        ) from None
    except (s3_errors.BaseError, OSError) as error:
        code = _s3_code(error)
        if code == "NoSuchBucket":
            raise _missing_bucket(bucket, where=where) from None
        if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"}:
            raise LakeAccessError(
                f"{where} refused to {operation} {uri}: {code}.",
                hint=f"Check the credentials (from {target.source}).",
            ) from None
        if code is None and not _has_status(error):
            raise LakeUnreachableError(
                f"{where} does not answer ({operation} {uri}): {_cause(error)}.",
                hint="Check PIXEL_S3_ENDPOINT, the network and PIXEL_S3_CA_BUNDLE; for the embedded server: `pixel s3 status`.",
            ) from None
        raise LakeWriteError(
            f"{where} failed to {operation} {uri}: {code or 'server error'}.",
            hint="Check the server's free disk space and its log, then run again; nothing half-written is visible.",
        ) from None


def _missing_bucket(bucket: str, *, where: str) -> LakeAccessError:
    return LakeAccessError(
        f"Bucket {bucket} does not exist at {where}.",
        hint="Create it, or set PIXEL_BUCKET and PIXEL_CHECKPOINT_BUCKET to buckets that exist.",
    )


def _s3_code(error: Exception) -> str | None:
    match = re.search(r"<Code>(\w+)</Code>", str(error))
    return match.group(1) if match else None


def _has_status(error: Exception) -> bool:
    return re.search(r"status(?: code)?:? ?\(?[45]\d\d", str(error), re.IGNORECASE) is not None


def _cause(error: Exception) -> str:
    text = str(error).lower()
    for sign, meaning in (
        ("refused", "connection refused"),
        ("certificate", "its TLS certificate is not trusted"),
        ("dns", "the host name does not resolve"),
        ("timed out", "timed out"),
        ("timeout", "timed out"),
    ):
        if sign in text:
            return meaning
    return "no usable answer"
