"""Errors of the S3 client, told in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager
import re

from obstore import exceptions as s3_errors

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.s3.errors import (
    KeyNameError,
    LakeAccessError,
    LakeBusyError,
    LakeConflictError,
    LakeInterruptedError,
    LakeUnreachableError,
    LakeUnsupportedError,
    LakeWriteError,
    ObjectChangedError,
    ObjectCorruptError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from pixel_pipeline.lake.s3.target import Target

REFUSED = {"AccessDenied", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "AccountProblem"}
EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}
SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
ELSEWHERE = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "BareRedirect"}
BUSY = {"SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded"}
CONFLICT = {"OperationAborted", "ConditionalRequestConflict"}
DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest"}
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "InvalidArgument", "InvalidRequest"}


@contextmanager
def translated(operation: str, *, key: str, bucket: str, target: Target) -> Iterator[None]:
    """Raise every error of the S3 client as one of `lake.errors`, naming operation, object and what to do."""
    # `from None`: the library's messages repeat request URLs and response bodies, with key ids in them.
    try:
        yield
    except (s3_errors.BaseError, OSError) as error:
        raise _meaning(error, operation=operation, key=key, bucket=bucket, target=target) from None


def _meaning(error: Exception, *, operation: str, key: str, bucket: str, target: Target) -> PixelError:
    uri = f"s3://{bucket}/{key}"
    where = f"S3 at {target.endpoint}" if target.endpoint else f"S3 in {target.region}"
    code = _s3_code(error)
    refused = f"{where} refused to {operation} {uri}"
    failed = f"{where} failed to {operation} {uri}"

    if code == "NoSuchBucket":
        return LakeAccessError(
            f"Bucket {bucket} does not exist at {where}.",
            hint="Create it, or set PIXEL_BUCKET and PIXEL_CHECKPOINT_BUCKET to buckets that exist.",
        )
    if code in EXPIRED:
        return LakeAccessError(
            f"{refused}: the credentials have expired ({code}).",
            hint=f"Renew them (from {target.source}; temporary ones with their session token), and run again.",
        )
    if code in SKEWED:
        return LakeAccessError(
            f"{refused}: {_clocks(target)} ({code}).",
            hint="Set this machine's clock, e.g. `timedatectl set-ntp true`, and run again.",
        )
    if code in ELSEWHERE:
        region = re.search(r"<Region>([\w-]+)</Region>", str(error))
        return LakeAccessError(
            f"{refused}: the bucket is not in region {target.region}"
            f"{f', but in {region[1]}' if region else ''} ({code}).",
            hint=f"Set PIXEL_S3_REGION{f'={region[1]}' if region else ' to its region'}, and PIXEL_S3_ENDPOINT to that region's.",
        )
    if code in CONFLICT:
        return LakeConflictError(
            f"{failed}: another write of it is under way ({code}).", hint="Run again; nothing was replaced."
        )
    if code in DAMAGED:
        return ObjectCorruptError(
            f"{failed}: other bytes arrived than were sent ({code}).",
            hint="Check the network, and run again.",
        )
    if code in BUSY:
        return LakeBusyError(
            f"{failed}: it is overloaded ({code}) and stayed so.",
            hint="Wait a while; if it happens again, lower PIXEL_WORKERS.",
        )
    if code == "KeyTooLongError":
        return KeyNameError(f"{where} takes no key, or no part of a key, as long as that of {uri}.")
    if isinstance(error, s3_errors.InvalidPathError):
        return KeyNameError(
            f"{where} failed to {operation} {uri}: a key there has control characters or empty parts.",
            hint="Rename the object at its source, or delete it.",
        )
    if isinstance(error, (s3_errors.NotFoundError, FileNotFoundError)):
        return ObjectNotFoundError(f"There is no object {uri}.")
    if isinstance(error, s3_errors.PreconditionError):
        return ObjectChangedError(
            f"{uri} is no longer the version that was listed.", hint="Run again to take up the new version."
        )
    if isinstance(error, s3_errors.AlreadyExistsError):
        return ObjectExistsError(f"{uri} exists already.")
    if code in REFUSED or isinstance(
        error, (s3_errors.UnauthenticatedError, s3_errors.PermissionDeniedError)
    ):
        return LakeAccessError(
            f"{refused}: {code or 'access denied'}.",
            hint=f"Check the credentials (from {target.source}) and their rights on the bucket.",
        )
    status = _status(error)
    if code is None and status is None:
        return _silence(error, f"{where} does not answer ({operation} {uri})")
    if code in UNSUPPORTED or status == 501:
        return LakeUnsupportedError(f"{failed}: {code or 'not implemented'}.")
    return LakeWriteError(
        f"{failed}: {code or f'server error {status}'}.",
        hint="Check the server's free disk space and its log, then run again; nothing half-written is visible.",
    )


def _s3_code(error: Exception) -> str | None:
    match = re.search(r"<Code>(\w+)</Code>", str(error))
    if match is None and "redirect without LOCATION" in str(error):
        return "BareRedirect"
    return match[1] if match else None


def _status(error: Exception) -> int | None:
    match = re.search(r"status(?: code)?:? ?\(?([45]\d\d)", str(error), re.IGNORECASE)
    return int(match[1]) if match else None


def _clocks(target: Target) -> str:
    skew = target.clock_skew()
    if skew is None:
        return "this machine's clock and the server's are too far apart"
    direction = "ahead of" if skew.total_seconds() > 0 else "behind"
    return f"this machine's clock is {abs(round(skew.total_seconds()))} s {direction} the server's"


def _silence(error: Exception, what: str) -> LakeUnreachableError:
    text = str(error).lower()
    hint = "Check PIXEL_S3_ENDPOINT, the network and PIXEL_S3_CA_BUNDLE; for the embedded server: `pixel s3 status`."
    for sign, meaning in (
        ("refused", "connection refused"),
        ("certificate", "its TLS certificate is not trusted"),
        ("dns", "the host name does not resolve"),
        # Not "timeout": the library names its retry_timeout in every message.
        ("timedout", "timed out"),
        ("timed out", "timed out"),
        ("kind: timeout", "timed out"),
    ):
        if sign in text:
            return LakeUnreachableError(f"{what}: {meaning}.", hint=hint)
    if "kind: interrupted" in text or "connection" in text:
        return LakeInterruptedError(f"{what}: the connection broke.", hint=hint)
    return LakeUnreachableError(f"{what}: no usable answer.", hint=hint)
