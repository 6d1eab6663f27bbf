"""What was computed from what, so that a rerun on unchanged input is a no-op.

A memo is written after the commit of the result it describes. A crash in between costs a recomputation, never a wrong
skip. It also carries the counts that the first computation reported, so that a skipped step can report them again.
"""

from dataclasses import dataclass
import hashlib
from typing import Any

import orjson

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError


def fingerprint(*parts: object) -> str:
    """Digest (32 hex digits) of JSON-like parts: code version, configuration, versions of the input."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()[:32]


@dataclass(frozen=True)
class Memo:
    """Memo of one result, e.g. `Memo(lake, "conversations/crisis_support")`."""

    lake: Lake
    name: str

    def recall(self, fingerprint: str) -> dict[str, Any] | None:
        """What was remembered under this fingerprint, or None when the input has changed or nothing was computed."""
        try:
            content = self.lake.data.get_json(self._key)
        except ObjectNotFoundError:
            return None
        return dict(content["result"]) if content.get("fingerprint") == fingerprint else None

    def remember(self, fingerprint: str, result: dict[str, Any]) -> None:
        """Record a finished result. `result` is plain JSON: counts, versions, keys."""
        self.lake.data.put_json(self._key, {"fingerprint": fingerprint, "result": result})

    def forget(self) -> None:
        """The result is gone; a later return of its input computes it anew."""
        self.lake.data.delete([self._key])

    @property
    def _key(self) -> str:
        return f"{keys.MEMO}/{self.name}.json"
