"""Records of finished results and their inputs, so that a rerun on unchanged input does nothing.

A memo is written after the commit of its result, so a crash in between only causes a recomputation. It contains the counts that
the computation reported, for a skipped step to report again.
"""

from dataclasses import dataclass
import hashlib
from typing import Any

import orjson

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError


def fingerprint(*parts: object) -> str:
    """Return a digest (32 hex digits) of JSON-like parts: code version, configuration, versions of the input."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()[:32]


@dataclass(frozen=True)
class Memo:
    """Memo of one result, e.g. `Memo(lake, "conversations/crisis_support")`."""

    lake: Lake
    name: str

    def recall(self, fingerprint: str) -> dict[str, Any] | None:
        """Return the result stored with this fingerprint, or None if the input has changed or nothing was computed."""
        try:
            content = self.lake.data.get_json(self._key)
        except ObjectNotFoundError:
            return None
        return dict(content["result"]) if content.get("fingerprint") == fingerprint else None

    def remember(self, fingerprint: str, result: dict[str, Any]) -> None:
        """Store a finished result. `result` is plain JSON: counts, versions, keys."""
        self.lake.data.put_json(self._key, {"fingerprint": fingerprint, "result": result})

    def forget(self) -> None:
        """Delete the memo, so that the result is computed again."""
        self.lake.data.delete([self._key])

    @property
    def _key(self) -> str:
        return f"{keys.MEMO}/{self.name}.json"
