"""Why a file did not arrive, in a word. rclone's own messages go no further: they quote URLs, answers and tokens."""

import re

# The first that matches; "userRateLimitExceeded" is a 403 too, "SlowDown" a 503.
_SIGNS = (
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
    """The reason in an error message of rclone's; `other` where none is recognised."""
    # What is quoted is a name or a URL, which may say anything.
    told = re.sub(r'"(\\.|[^"\\])*"', "", message)
    return next((reason for reason, sign in _SIGNS if re.search(sign, told, re.IGNORECASE)), "other")


def is_transient(reason: str) -> bool:
    """Whether the same may succeed a little later."""
    return reason in _TRANSIENT
