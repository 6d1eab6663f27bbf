"""Objects as listings describe them, and ETags, which name their versions."""

from dataclasses import dataclass
from datetime import datetime
import re
from typing import Any, Self


@dataclass(frozen=True)
class ObjectInfo:
    """One object. `size` in bytes; `etag` without quotes; `last_modified` with time zone."""

    key: str
    size: int
    etag: str
    last_modified: datetime

    @classmethod
    def of(cls, item: Any) -> Self:
        """Convert obstore's metadata of an object."""
        return cls(item["path"], item["size"], bare_etag(item["e_tag"]), item["last_modified"])


def bare_etag(etag: str | None) -> str:
    """Return an ETag without its quotes."""
    return (etag or "").strip('"')


def pinned(etag: str | None) -> Any:
    """Return the options of a GET that fails if the object is another version."""
    return {} if etag is None else {"if_match": f'"{etag}"'}


def is_md5(etag: str) -> bool:
    """True for an ETag that may be the MD5 of the object; that of a multipart upload is not."""
    return re.fullmatch(r"[0-9a-f]{32}", etag) is not None
