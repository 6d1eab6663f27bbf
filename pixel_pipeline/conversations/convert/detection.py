"""How an object was identified, with the evidence: counted over its first records as they are converted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from pixel_pipeline.conversations.containers.container import Opened
from pixel_pipeline.conversations.formats.fields import nameable_keys
from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS, ConversionOptions

SAMPLE_RECORDS = 200
MIXED_SHARE = 0.05
"""Share of the sample from which a second format makes an object mixed; fewer records may be accidents."""
MOST_KEYS = 40
UNRECOGNISED = "unrecognised"
UNREADABLE = "unreadable"


@dataclass(slots=True)
class Detection:
    """Evidence about one object.

    Each record is converted by its own structure; the detection describes most of them. The sample is the records that begin within
    the first PROBE_BYTES, the same whether an object is read whole or in ranges; if positions are not offsets in the object, it is
    the first SAMPLE_RECORDS.

    Attributes:
        options: Settings of the rule; its container, encoding and format are overrides.
        container: Name of the container, or "other".
        container_why: Evidence for it.
        encoding: As in the ledger.
        encoding_why: Evidence for it.
        votes: Records of the sample by format, or UNRECOGNISED (no known structure), or UNREADABLE (not a record).
        keys: Keys of the records that are short identifiers.
    """

    options: ConversionOptions = DEFAULT_OPTIONS
    container: str = "other"
    container_why: str = ""
    encoding: str = "binary"
    encoding_why: str = ""
    votes: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    def opened(self, opened: Opened) -> None:
        """Record how an object was opened."""
        self.container, self.container_why = opened.name, opened.why
        self.encoding, self.encoding_why = opened.encoding, opened.encoding_why

    def add(self, vote: str, keys: Iterable[Any], *, records: int = 1) -> None:
        """Count records of the sample."""
        self.votes[vote] += records
        self.keys.update(nameable_keys(keys))

    def to_json(self) -> dict[str, Any]:
        """Return the detection as stored in the ledger.

        `confidence` is the share of the sample with the most frequent format, from 0 to 1. `mixed` is true if a second format has a
        share that is not accidental.
        """
        formats = [n for name, n in self.votes.items() if name not in (UNRECOGNISED, UNREADABLE)]
        first, second, *_ = [*sorted(formats, reverse=True), 0, 0]
        sample = self.votes.total()
        overrides = {name: getattr(self.options, name) for name in ("container", "encoding", "format")}
        return {
            "container": self.container,
            "container_why": self.container_why,
            "encoding": self.encoding,
            "encoding_why": self.encoding_why,
            "sample": sample,
            "votes": dict(sorted(self.votes.items())),
            "confidence": round(first / (sample or 1), 3),
            "mixed": second > 0 and second >= MIXED_SHARE * sample,
            "keys": sorted(self.keys)[:MOST_KEYS],
            "override": {name: value for name, value in overrides.items() if value is not None},
        }


def merged_detection(first: str, second: str) -> str:
    """Merge the ledger's detections of two consecutive ranges of an object."""
    whole, more = orjson.loads(first), orjson.loads(second)
    detection = Detection(
        votes=Counter(whole["votes"]) + Counter(more["votes"]), keys={*whole["keys"], *more["keys"]}
    )
    counted = detection.to_json()
    return orjson.dumps(
        whole | {name: counted[name] for name in ("sample", "votes", "confidence", "mixed", "keys")}
    ).decode()
