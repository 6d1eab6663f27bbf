"""Errors of the S3 client as PixelErrors."""

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

EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}
SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
CONFLICT = {"OperationAborted", "ConditionalRequestConflict"}
DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest"}
BUSY = {"SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded"}
OTHER_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "BareRedirect"}
REFUSED = {"AccessDenied", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "AccountProblem"}
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "InvalidArgument", "InvalidRequest"}


@contextmanager
def translated(operation: str, *, key: str, bucket: str, target: Target) -> Iterator[None]:
    """Raise every error of the S3 client as one of `s3/errors.py` that names the operation, the object and a remedy."""
    # `from None`: the library's messages repeat request URLs and response bodies, which contain key ids.
    try:
        yield
    except (s3_errors.BaseError, OSError) as error:
        code = _s3_code(error)
        by_code = (
            None
            if code is None
            else _by_code(code, error, operation=operation, key=key, bucket=bucket, target=target)
        )
        raise by_code or _by_type(
            error, code, operation=operation, uri=f"s3://{bucket}/{key}", target=target
        ) from None


def _by_code(
    code: str, error: Exception, *, operation: str, key: str, bucket: str, target: Target
) -> PixelError | None:
    uri, where = f"s3://{bucket}/{key}", target.where
    refused, failed = f"{where} refused to {operation} {uri}", f"{where} failed to {operation} {uri}"
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
    if code in OTHER_REGION:
        found = re.search(r"<Region>([\w-]+)</Region>", str(error))
        region = found[1] if found else None
        return LakeAccessError(
            f"{refused}: the bucket is not in region {target.region}{f', but in {region}' if region else ''} ({code}).",
            hint=f"Set PIXEL_S3_REGION{f'={region}' if region else ' to its region'}, and PIXEL_S3_ENDPOINT to that region's.",
        )
    if code in CONFLICT:
        return LakeConflictError(
            f"{failed}: another write of it is under way ({code}).", hint="Run again; nothing was replaced."
        )
    if code in DAMAGED:
        return ObjectCorruptError(
            f"{failed}: the bytes that arrived differ from those sent ({code}).",
            hint="Check the network, and run again.",
        )
    if code in BUSY:
        return LakeBusyError(
            f"{failed}: it stayed overloaded ({code}).",
            hint="Wait a while; if it happens again, lower PIXEL_WORKERS.",
        )
    if code == "KeyTooLongError":
        return KeyNameError(f"The key of {uri}, or a part of it, is too long for {where}.")
    return None


def _by_type(error: Exception, code: str | None, *, operation: str, uri: str, target: Target) -> PixelError:
    failed = f"{target.where} failed to {operation} {uri}"
    if isinstance(error, s3_errors.InvalidPathError):
        return KeyNameError(
            f"{failed}: a key there has control characters or empty parts.",
            hint="Rename the object at its source, or delete it.",
        )
    if isinstance(error, (s3_errors.NotFoundError, FileNotFoundError)):
        return ObjectNotFoundError(f"There is no object {uri}.")
    if isinstance(error, s3_errors.PreconditionError):
        return ObjectChangedError(
            f"{uri} is no longer the version that was listed.", hint="Run again to read the new version."
        )
    if isinstance(error, s3_errors.AlreadyExistsError):
        return ObjectExistsError(f"{uri} exists already.")
    denied = isinstance(error, (s3_errors.UnauthenticatedError, s3_errors.PermissionDeniedError))
    if denied or code in REFUSED:
        return LakeAccessError(
            f"{target.where} refused to {operation} {uri}: {code or 'access denied'}.",
            hint=f"Check the credentials (from {target.source}) and their rights on the bucket.",
        )
    match = re.search(r"status(?: code)?:? ?\(?([45]\d\d)", str(error), re.IGNORECASE)
    status = match[1] if match else None
    if code is None and status is None:
        return _no_response(error, f"{target.where} does not answer ({operation} {uri})")
    if code in UNSUPPORTED or status == "501":
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


def _clocks(target: Target) -> str:
    skew = target.clock_skew()
    if skew is None:
        return "this machine's clock and the server's are too far apart"
    direction = "ahead of" if skew.total_seconds() > 0 else "behind"
    return f"this machine's clock is {abs(round(skew.total_seconds()))} s {direction} the server's"


def _no_response(error: Exception, message: str) -> LakeUnreachableError:
    text = str(error).lower()
    hint = "Check PIXEL_S3_ENDPOINT, the network and PIXEL_S3_CA_BUNDLE; for the embedded server: `pixel s3 status`."
    for sign, reason in (
        ("refused", "connection refused"),
        ("certificate", "its TLS certificate is not trusted"),
        ("dns", "the host name does not resolve"),
        # Not "timeout": the library names its retry_timeout in every message.
        ("timedout", "timed out"),
        ("timed out", "timed out"),
        ("kind: timeout", "timed out"),
    ):
        if sign in text:
            return LakeUnreachableError(f"{message}: {reason}.", hint=hint)
    if "kind: interrupted" in text or "connection" in text:
        return LakeInterruptedError(f"{message}: the connection broke.", hint=hint)
    return LakeUnreachableError(f"{message}: no usable answer.", hint=hint)
