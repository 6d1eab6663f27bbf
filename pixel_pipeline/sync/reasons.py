"""Classify rclone's error messages. The messages themselves are dropped: they quote URLs, responses and tokens."""

import re

# The first match wins: "userRateLimitExceeded" is also a 403, "SlowDown" also a 503.
_PATTERNS = (
    ("flagged_as_abuse", r"abusive|malware"),
    ("download_quota", r"downloadQuotaExceeded|download quota"),
    ("rate_limit", r"rate.?limit|SlowDown|TooManyRequests|StatusCode: 429|Error 429"),
    (
        "credentials",
        r"invalid_grant|invalid_client|oauth|token|unauthori[sz]ed|credential|InvalidAccessKeyId|SignatureDoesNotMatch"
        r"|StatusCode: 401|Error 401",
    ),
    (
        "permission",
        r"AccessDenied|permission|cannotDownload|forbidden|not permitted|StatusCode: 403|Error 403",
    ),
    ("name_too_long", r"KeyTooLong|name too long"),
    ("dangling_shortcut", r"dangling shortcut"),
    ("changed_meanwhile", r"source file is being updated|mod ?time changed|size changed"),
    ("checksum", r"BadDigest|corrupted on transfer|checksum|hash(es)? differ|md5 differ|sizes differ"),
    ("no_space", r"no space|InsufficientStorage|storageQuotaExceeded|QuotaExceeded"),
    ("not_found", r"not found|NoSuchKey|no such file|StatusCode: 404|Error 404|notFound"),
    ("server", r"StatusCode: 5\d\d|Error 5\d\d|InternalError|backendError|internal server error|Unavailable"),
    (
        "network",
        r"connection|broken pipe|time(d )?.?out|no such host|\bEOF\b|unreachable|transport|request send failed"
        r"|certificate|tls:",
    ),
)
_TRANSIENT = frozenset({"rate_limit", "changed_meanwhile", "checksum", "server", "network"})


def reason_of(message: str) -> str:
    """Return the reason for one of rclone's error messages, or `other`."""
    # Quoted names and URLs could match any pattern.
    text = re.sub(r'"(\\.|[^"\\])*"', "", message)
    return next((reason for reason, pattern in _PATTERNS if re.search(pattern, text, re.IGNORECASE)), "other")


def is_transient(reason: str) -> bool:
    """Whether a retry may succeed."""
    return reason in _TRANSIENT
