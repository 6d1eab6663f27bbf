"""ETags: S3's names of object versions."""

import re
from typing import Any


def bare_etag(etag: str | None) -> str:
    """Return an ETag without its quotes."""
    return (etag or "").strip('"')


def pinned(etag: str | None) -> Any:
    """Return the options of a GET that fails if the object is another version."""
    return {} if etag is None else {"if_match": f'"{etag}"'}


def is_md5(etag: str) -> bool:
    """True for an ETag that may be the MD5 of the object; that of a multipart upload is not."""
    return re.fullmatch(r"[0-9a-f]{32}", etag) is not None
