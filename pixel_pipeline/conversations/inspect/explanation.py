"""Explains how an object is read: the candidates with their evidence, and the outcome of converting its first records.

Writes nothing and contains no conversation text.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from statistics import median
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.conversations.containers.container import Evidence, Opened
from pixel_pipeline.conversations.convert.conversion import convert_object
from pixel_pipeline.conversations.convert.detection import (
    SAMPLE_RECORDS,
    UNREADABLE,
    UNRECOGNISED,
    Detection,
)
from pixel_pipeline.conversations.formats.known import FORMATS, find_format
from pixel_pipeline.conversations.inspect.shapes import OTHERS, shapes_of, speakers_of
from pixel_pipeline.conversations.model.records import (
    Block,
    Fault,
    Item,
    ObjectError,
    Record,
    RecordError,
)
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.threads.sessions import sessions_of

MAX_MEMBERS = 50
MAX_REASONS = 5


class Candidate(NamedTuple):
    """One container that was considered.

    Attributes:
        matches: Whether it could read the object.
        chosen: Whether it reads the object.
        why: Evidence for or against it.
    """

    name: str
    matches: bool
    chosen: bool
    why: str


class FormatScore(NamedTuple):
    """One format that was considered.

    Attributes:
        matches: Records of the sample with its structure.
        votes: Records that it converts. If several formats match, the first one in FORMATS converts the record.
        before: Earlier formats that convert the other matching records.
    """

    name: str
    matches: int
    votes: int
    before: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """How one object is read.

    Attributes:
        detection: Like `detection` in the ledger, but for the sample.
        complete: Whether the sample is the whole object.
        candidates: Containers in the order they were considered.
        members: Name and container of each sampled member of an archive.
        formats: Formats that match any record of the sample, most votes first.
        shapes: Number of records by structure.
        speakers: Count by spelling, for spellings with a known role.
        unnamed_speakers: Count of all other speakers, which may be names of people.
        records: Records in the sample.
        converted: Conversations made from them.
        quarantined: Count and reasons by error class.
        dropped: Records by reason.
        repaired: Repairs by kind.
        roles: Turns by canonical role.
        turns: Minimum, median and maximum number of turns; empty without conversations.
        reasoning: Conversations with a separate chain of thought.
        tags: Conversations by tag.
    """

    detection: dict[str, Any]
    complete: bool
    candidates: tuple[Candidate, ...]
    members: tuple[tuple[str, str], ...]
    formats: tuple[FormatScore, ...]
    shapes: tuple[tuple[int, str], ...]
    speakers: dict[str, int]
    unnamed_speakers: int
    records: int
    converted: int
    quarantined: dict[str, dict[str, Any]]
    dropped: dict[str, int]
    repaired: dict[str, int]
    roles: dict[str, int]
    turns: tuple[float, ...]
    reasoning: int
    tags: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {
            "candidates": [candidate._asdict() for candidate in self.candidates],
            "formats": [score._asdict() for score in self.formats],
            "shapes": [{"records": n, "shape": shape} for n, shape in self.shapes],
            "members": [{"name": name, "container": container} for name, container in self.members],
        }


def explain(source: SourceObject, stream: BinaryIO, *, most_records: int = SAMPLE_RECORDS) -> Explanation:
    """Convert the first records of an object, and explain the choices made.

    Args:
        stream: The object's bytes, read only as far as the sample needs.
        most_records: Size of the sample.

    Raises:
        Only errors of `stream`; the content of an object never raises.
    """
    detection = Detection(source.options)
    sample = _Sample(detection, most_records)
    conversion = convert_object(source, stream, look=sample.look)
    turns: list[int] = []
    roles: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    tags: Counter[str] = Counter()
    reasoning = 0
    for batch in conversion:
        messages = batch.conversations["messages"]
        turns += pc.list_value_length(messages).to_pylist()
        roles.update(pc.list_flatten(messages).field("role").to_pylist())
        tags.update(pc.list_flatten(batch.conversations["tags"]).to_pylist())
        reasoning += batch.conversations.num_rows - batch.conversations["reasoning"].null_count
        for error_class, reason in _errors(batch.quarantine):
            reasons.setdefault(error_class, Counter())[reason] += 1
    entry = conversion.ledger
    # If the object could not be opened, only the conversion knows why.
    detection = detection if detection.container_why else entry.detection
    speakers = speakers_of(sample.values)
    unnamed = speakers.pop(OTHERS, 0)
    return Explanation(
        detection=detection.to_json(),
        complete=not sample.cut,
        candidates=_candidates(sample, chosen=detection.container),
        members=tuple(sample.members),
        formats=_scores(sample.values, only=source.options.format),
        shapes=tuple(shapes_of(sample.values)),
        speakers=dict(speakers.most_common()),
        unnamed_speakers=unnamed,
        records=entry.records_in,
        converted=entry.records_out,
        quarantined={
            error_class: {
                "records": n,
                "reasons": dict(reasons.get(error_class, Counter()).most_common(MAX_REASONS)),
            }
            for error_class, n in entry.errors.most_common()
        },
        dropped=dict(entry.dropped),
        repaired={kind: n for kind, n in sorted(entry.repaired.items()) if n},
        roles=dict(roles.most_common()),
        turns=(min(turns), median(turns), max(turns)) if turns else (),
        reasoning=reasoning,
        tags=dict(tags),
    )


@dataclass
class _Sample:
    """Samples the first records of an object while they are converted.

    Attributes:
        detection: Receives the format of each record.
        room: Number of records still to sample.
        cut: Whether the object has more records.
        values: The sampled records; of a record with several sessions, its sessions.
    """

    detection: Detection
    room: int
    cut: bool = False
    candidates: dict[str, Evidence] = field(default_factory=dict)
    members: list[tuple[str, str]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def look(self, opened: Opened) -> Opened:
        self.candidates = opened.candidates or {}
        self.detection.opened(opened)
        return self._first(opened)

    def _first(self, opened: Opened) -> Opened:
        if opened.members is not None:
            return opened._replace(members=self._members(opened.members))
        return opened._replace(records=self._records(opened.records))

    def _members(
        self, members: Iterator[tuple[str, int, Opened | ObjectError]]
    ) -> Iterator[tuple[str, int, Opened | ObjectError]]:
        for name, size, opened in members:
            if not self.room or len(self.members) == MAX_MEMBERS:
                self.cut = True
                return
            if isinstance(opened, ObjectError):
                self.members.append((name, opened.error_class))
                yield name, size, opened
            else:
                self.members.append((name, opened.name))
                yield name, size, self._first(opened)

    def _records(self, items: Iterator[Item]) -> Iterator[Item]:
        records = (record for item in items for record in _records_of(item))
        for record in islice(records, self.room):
            self.room -= 1
            if isinstance(record, Record):
                self._count(_values_of(record.value))
            else:
                self.detection.add(UNREADABLE, ())
            yield record
        if not self.room:
            self.cut = self.cut or next(records, None) is not None

    def _count(self, values: list[Any]) -> None:
        only = self.detection.options.format
        for value in values:
            found = find_format(value, only=only)
            vote = UNRECOGNISED if found is None else found.name
            self.detection.add(vote, value if isinstance(value, dict) else ())
        self.values += values


def _records_of(item: Item) -> Iterator[Record | Fault]:
    return item.records(Counter()) if isinstance(item, Block) else iter((item,))


def _values_of(value: Any) -> list[Any]:
    """The record, or its sessions if it has several and no format matches it as a whole."""
    if find_format(value) is not None:
        return [value]
    try:
        sessions = sessions_of(value)
    except RecordError:
        sessions = None
    return [value] if sessions is None else sessions.values


def _errors(quarantine: pa.RecordBatch) -> Iterator[tuple[str, str]]:
    return zip(quarantine["error_class"].to_pylist(), quarantine["reason"].to_pylist(), strict=True)


def _candidates(sample: _Sample, *, chosen: str) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(name, evidence.holds, name == chosen, evidence.why)
        for name, evidence in sample.candidates.items()
    )


def _scores(values: list[Any], *, only: str | None) -> tuple[FormatScore, ...]:
    votes = Counter(found.name for value in values if (found := find_format(value, only=only)))
    scores = []
    for source_format in FORMATS:
        matched = [value for value in values if source_format.matches(value)]
        if not matched:
            continue
        first = {found.name: None for value in matched if (found := find_format(value, only=only))}
        before = tuple(name for name in first if name != source_format.name)
        scores.append(FormatScore(source_format.name, len(matched), votes[source_format.name], before))
    return tuple(sorted(scores, key=lambda score: (-score.votes, -score.matches)))
