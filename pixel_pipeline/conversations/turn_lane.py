"""A short way for JSON lines that look alike: turns straight into columns, a block of lines at a time.

Most lines of most files hold a list of turns with two keys each, in order, clean and complete. For these the long way (ask
every format, clean, validate, one record after the other) is found out once and taken as given: a typed decoder accepts
only lines of exactly that shape, and what is not in order is found for the whole block at once. Any line that is not is
handed back, to go the long way; what comes out is the same to the letter.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from pixel_pipeline.conversations import metadata
from pixel_pipeline.conversations.batch import conversation_rows, flagged_conversations, repeated
from pixel_pipeline.conversations.columns import Flags, tagged, texts_of
from pixel_pipeline.conversations.formats import chatml, find_format, sharegpt
from pixel_pipeline.conversations.formats.fields import key_names
from pixel_pipeline.conversations.identity import ROLE_CODES, record_ids
from pixel_pipeline.conversations.records import Block, RecordError
from pixel_pipeline.conversations.roles import role_of
from pixel_pipeline.conversations.source import SourceObject

_SPELLINGS = {
    sharegpt.NAME: (sharegpt.ROLES, sharegpt.CONTENTS),
    chatml.NAME: (chatml.ROLES, chatml.CONTENTS),
}
# Beside the list of turns, a key of one of these names has a meaning to some format.
_MEANT = frozenset(
    [
        "messages",
        "conversation",
        "conversations",
        "dialogue",
        "dialog",
        "turns",
        "utterances",
        "chat",
        "session",
        "transcript",
        "log",
        "history",
        "items",
        "sessions",
        "system",
        "system_prompt",
        "response",
        "output",
        "answer",
    ]
)
_UNKNOWN = 255
# Blocks in a row without a lane, after which none is looked for any more.
_MOST_MISSES = 8
_LEAST_IN_LANE = 0.5


class Lines(NamedTuple):
    """What became of a block of lines.

    Attributes:
        format_name: Of all rows.
        keys: Of all records in the lane.
        rows: Rows of CONVERSATION_SCHEMA, one for each line in the lane.
        lines: For each non-blank line its offset within the block, and its end.
        in_lane: Which of them are in `rows`; the others go the long way.
    """

    format_name: str
    keys: tuple[str, ...]
    rows: pa.RecordBatch
    lines: list[tuple[int, int]]
    in_lane: Flags


class TurnLanes:
    """The lanes of one object's lines: the present one, and when to look for another."""

    def __init__(self, source: SourceObject) -> None:
        self._source = source
        self._lane: TurnLane | None = None
        self._misses = 0

    def read(self, block: Block, *, member: str | None) -> Lines | None:
        """Reads a block where its lines have a lane; None where they all have to go the long way."""
        if self._misses > _MOST_MISSES:
            return None
        lane = self._lane or TurnLane.of(
            block.data.lstrip().split(b"\n", 1)[0], only=self._source.options.format
        )
        lines = (
            lane.read(block.data, offset=block.position, source=self._source, member=member) if lane else None
        )
        self._lane = lane if lines is not None else None
        self._misses = 0 if lines is not None else self._misses + 1
        return lines


class TurnLane:
    """The lane of lines with the keys of one example."""

    def __init__(
        self, *, turns: str, role: str, content: str, besides: tuple[str, ...], format_name: str
    ) -> None:
        self.format_name = format_name
        self._besides = besides
        self._keys = (turns, *besides)
        turn = msgspec.defstruct(
            "Turn",
            [("role", str), ("content", str)],
            rename={"role": role, "content": content},
            forbid_unknown_fields=True,
            gc=False,
        )
        names = [f"besides_{number}" for number in range(len(besides))]
        record = msgspec.defstruct(
            "Record",
            [("turns", list[turn]), *((name, msgspec.Raw) for name in names)],  # type: ignore[valid-type]
            rename={"turns": turns, **dict(zip(names, besides, strict=True))},
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(record).decode_lines
        self._names = names
        self._codes = _Codes()

    @classmethod
    def of(cls, line: bytes, *, only: str | None = None) -> Self | None:
        """The lane that a line lies in; None where it has to go the long way, and so have its like.

        Args:
            only: Name of the one format that lines may be of.
        """
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(record, dict):
            return None
        source_format = find_format(record, only=only)
        if source_format is None or source_format.name not in _SPELLINGS:
            return None
        names = key_names(record)
        meant = [key for name, key in names.items() if name in _MEANT]
        if len(meant) != 1 or len(names) != len(record):
            return None
        turns = record[meant[0]]
        if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict) or len(turns[0]) != 2:
            return None
        roles, contents = _SPELLINGS[source_format.name]
        role = [key for key in turns[0] if key in roles]
        content = [key for key in turns[0] if key in contents]
        if len(role) != 1 or len(content) != 1:
            return None
        return cls(
            turns=meant[0],
            role=role[0],
            content=content[0],
            besides=tuple(key for key in record if key != meant[0]),
            format_name=source_format.name,
        )

    def read(self, block: bytes, *, offset: int, source: SourceObject, member: str | None) -> Lines | None:
        """Reads whole lines.

        Args:
            offset: Of the block in the object or member.

        Returns:
            None where the lines are not of this lane's kind; nothing is known of any of them then.
        """
        lines = _line_bounds(block)
        try:
            records: list[Any] = self._decode(block)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if len(records) != len(lines) or not records:
            return None
        lengths = np.fromiter((len(record.turns) for record in records), np.int64, len(records))
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        codes = self._codes
        roles = np.fromiter(
            (codes[turn.role] for record in records for turn in record.turns), np.uint8, int(bounds[-1])
        )
        texts = texts_of([turn.content for record in records for turn in record.turns])
        flags = flagged_conversations(roles, texts, bounds=bounds, options=source.options)
        unknown = np.flatnonzero(roles == _UNKNOWN)
        flags[np.searchsorted(bounds, unknown, side="right") - 1] = True
        flags[np.searchsorted(bounds, np.flatnonzero(tagged(texts)), side="right") - 1] = True
        described, languages = self._describe(records, flags)
        positions = [offset + start for start, _ in lines]
        if flags.any():
            if np.count_nonzero(flags) > (1 - _LEAST_IN_LANE) * len(records):
                return None
            kept = np.flatnonzero(~flags)
            turns_kept = np.repeat(~flags, lengths)
            roles = roles[turns_kept]
            texts = texts_of(texts.array.filter(pa.array(turns_kept)).to_pylist())
            bounds = np.concatenate([[0], np.cumsum(lengths[kept])])
            positions = [positions[index] for index in kept.tolist()]
            described = [described[index] for index in kept.tolist()]
            languages = [languages[index] for index in kept.tolist()]
        n = len(positions)
        rows = conversation_rows(
            source,
            ids=record_ids(key=source.key, positions=positions, member=member),
            positions=positions,
            position_kind="byte",
            member=member,
            roles=roles,
            texts=texts,
            bounds=bounds,
            formats=repeated(self.format_name, n),
            languages=languages,
            reasonings=[None] * n,
            metadata=described,
        )
        return Lines(self.format_name, self._keys, rows, lines, ~flags)

    def _describe(self, records: Iterable[Any], flags: Flags) -> tuple[list[str], list[str | None]]:
        """Metadata and language of each record; flags those whose metadata cannot be read."""
        if not self._besides:
            return ["{}"] * len(flags), [None] * len(flags)
        described: list[str] = []
        languages: list[str | None] = []
        for index, record in enumerate(records):
            try:
                besides = {
                    key: orjson.loads(memoryview(getattr(record, name)))
                    for key, name in zip(self._besides, self._names, strict=True)
                }
                language, besides = metadata.split_language(besides)
                described.append(metadata.dump(besides))
            except (orjson.JSONDecodeError, RecordError):
                flags[index] = True
                language = None
                described.append("{}")
            languages.append(language)
        return described, languages


class _Codes(dict[str, int]):
    """Code of the canonical role by spelling."""

    def __missing__(self, spelling: str) -> int:
        role = role_of(spelling)
        code = _UNKNOWN if role is None else ROLE_CODES[role]
        if len(self) < 4096:
            self[spelling] = code
        return code


def _line_bounds(block: bytes) -> list[tuple[int, int]]:
    """Start and end of each line that is not blank."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 0x0A).tolist()
    if not ends or ends[-1] != len(block) - 1:
        ends.append(len(block))
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [
        (start, end)
        for start, end in zip(starts, ends, strict=True)
        if end - start > 2 or block[start:end].strip()
    ]
