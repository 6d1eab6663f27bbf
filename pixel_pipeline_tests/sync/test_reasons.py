"""Messages of rclone 1.75."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.sync.reasons import is_transient, reason_of

S3 = "Failed to copy: operation error S3: PutObject, https response error StatusCode: {}, RequestID: 1, HostID: , api error {}"


@pytest.mark.parametrize(
    ("message", "reason", "transient"),
    [
        (S3.format(503, "SlowDown: UnknownError"), "rate_limit", True),
        (S3.format(403, "AccessDenied: UnknownError"), "permission", False),
        (S3.format(400, "KeyTooLongError: Your key is too long."), "name_too_long", False),
        (S3.format(400, "BadDigest: The Content-Md5 did not match what we received."), "checksum", True),
        (S3.format(403, "InvalidAccessKeyId: no such key"), "credentials", False),
        (S3.format(500, "InternalError: We encountered an internal error"), "server", True),
        (
            'Failed to copy: request send failed, Put "http://127.0.0.1:1/AccessDenied": read: connection reset by peer',
            "network",
            True,
        ),
        ("failed to open source object: object not found", "not_found", False),
        ("corrupted on transfer: md5 hashes differ src(S3) 1 vs dst(S3) 2", "checksum", True),
        (
            "can't copy - source file is being updated (mod time changed from 1 to 2)",
            "changed_meanwhile",
            True,
        ),
        (
            "failed to open source object: open file failed: googleapi: Error 403: This file has been identified as malware or "
            "spam and cannot be downloaded., cannotDownloadAbusiveFile",
            "flagged_as_abuse",
            False,
        ),
        ("googleapi: Error 403: User Rate Limit Exceeded, userRateLimitExceeded", "rate_limit", True),
        (
            "googleapi: Error 403: The download quota for this file has been exceeded., downloadQuotaExceeded",
            "download_quota",
            False,
        ),
        (
            "googleapi: Error 403: The user has not granted the app access, appNotAuthorizedToFile",
            "permission",
            False,
        ),
        ("googleapi: Error 404: File not found: 1abc., notFound", "not_found", False),
        ("couldn't fetch token: invalid_grant: maybe token expired?", "credentials", False),
        ("write: no space left on device", "no_space", False),
        ("an unknown message", "other", False),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_reasons_of_messages(message: str, reason: str, transient: bool) -> None:
    assert reason_of(message) == reason
    assert is_transient(reason) == transient


@given(name=st.text(st.characters(exclude_characters='"\\')))
def test_a_quoted_name_does_not_affect_the_reason(name: str) -> None:
    assert reason_of(f'Get "http://host/{name}": unknown') == "other"
