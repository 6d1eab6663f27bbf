"""What an object was taken for, and on what evidence: counted over its first records as they are converted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from pixel_pipeline.conversations.containers.opened import Opened
from pixel_pipeline.conversations.formats.fields import nameable_keys
from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS, ConversionOptions

SAMPLE_RECORDS = 200
MIXED_SHARE = 0.05
"""A second format with this share of the sample makes an object a mixed one: fewer records may be accidents."""
MOST_KEYS = 40
UNRECOGNISED = "unrecognised"
UNREADABLE = "unreadable"


@dataclass(slots=True)
class Detection:
    """Evidence of one object.

    Each record is converted by what it is itself; this tells what most of them are. The sample is the records that
    begin within the first PROBE_BYTES, the same whether an object is read whole or in ranges; where positions are no offsets
    in the object, it is the first SAMPLE_RECORDS.

    Attributes:
        options: What its rule says; what it says of container, encoding and format is an override.
        container: Name of the container, or "other".
        container_why: What speaks for it.
        encoding: As in the ledger.
        encoding_why: What speaks for it.
        votes: Records of the sample by format; UNRECOGNISED: of no known structure; UNREADABLE: not even a record.
        keys: Keys of the records, as far as they are short identifiers.
    """

    options: ConversionOptions = DEFAULT_OPTIONS
    container: str = "other"
    container_why: str = ""
    encoding: str = "binary"
    encoding_why: str = ""
    votes: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    def opened(self, opened: Opened) -> None:
        """Notes what an object was opened as."""
        self.container, self.container_why = opened.name, opened.why
        self.encoding, self.encoding_why = opened.encoding, opened.encoding_why

    def add(self, vote: str, keys: Iterable[Any], *, records: int = 1) -> None:
        """Counts records that belong to the sample."""
        self.votes[vote] += records
        self.keys.update(nameable_keys(keys))

    @property
    def format(self) -> str | None:
        """The format of most records; None where none is recognised."""
        formats = self.formats
        return min(formats, key=lambda name: (-formats[name], name)) if formats else None

    @property
    def formats(self) -> dict[str, int]:
        """Records of the sample by format, without those of none."""
        return {name: n for name, n in self.votes.items() if name not in (UNRECOGNISED, UNREADABLE)}

    @property
    def confidence(self) -> float:
        """Share of the sample that has the format of most records, from 0 to 1."""
        return max(self.formats.values(), default=0) / (self.votes.total() or 1)

    @property
    def mixed(self) -> bool:
        """Whether a second format has a share of the sample that is no accident."""
        counts = sorted(self.formats.values(), reverse=True)
        return len(counts) > 1 and counts[1] >= MIXED_SHARE * self.votes.total()

    def to_json(self) -> dict[str, Any]:
        """What the ledger keeps of it."""
        said = {name: getattr(self.options, name) for name in ("container", "encoding", "format")}
        return {
            "container": self.container,
            "container_why": self.container_why,
            "encoding": self.encoding,
            "encoding_why": self.encoding_why,
            "sample": self.votes.total(),
            "votes": dict(sorted(self.votes.items())),
            "confidence": round(self.confidence, 3),
            "mixed": self.mixed,
            "keys": sorted(self.keys)[:MOST_KEYS],
            "override": {name: value for name, value in said.items() if value is not None},
        }

    def dumped(self) -> str:
        """`to_json` as text."""
        return orjson.dumps(self.to_json()).decode()


def merged_detection(first: str, second: str) -> str:
    """Returns what the ledger keeps of an object, from what it has of two ranges of it, one behind the other."""
    whole, more = orjson.loads(first), orjson.loads(second)
    detection = Detection(
        votes=Counter(whole["votes"]) + Counter(more["votes"]), keys={*whole["keys"], *more["keys"]}
    )
    counted = detection.to_json()
    return orjson.dumps(
        whole | {name: counted[name] for name in ("sample", "votes", "confidence", "mixed", "keys")}
    ).decode()
