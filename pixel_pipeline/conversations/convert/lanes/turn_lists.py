"""The lane of records with a list of turns of two keys each, one for the speaker and one for the text."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.convert.lanes.lane import Columns, Lane, LaneRecords
from pixel_pipeline.conversations.convert.lanes.lane_metadata import Described, RawMetadata, metadata_of
from pixel_pipeline.conversations.formats.fields import key_names
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.formats.roles import role_of, speaker_key
from pixel_pipeline.conversations.formats.turn_lists import chatml, sharegpt
from pixel_pipeline.conversations.formats.turn_lists.turn_list import SYSTEM_KEYS
from pixel_pipeline.conversations.model.columns import Flags, Ints, Texts, blank, nulls_of, tagged
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.turns import ROLE_CODES, Turns, bounds_of

_FORMATS = {module.NAME: module for module in (sharegpt, chatml)}
# A record must have only one of these keys, because some format uses each of them.
_EXCLUSIVE = frozenset((*chatml.LISTS, *sharegpt.LISTS, *chatml.LAST_ANSWERS, "sessions"))
_UNKNOWN = 255


class Keys(NamedTuple):
    """The keys of a record: of its turns, of speaker and text in each turn, and of a system text."""

    turns: str
    role: str
    content: str
    system: str | None


def lane_of(record: dict[str, Any], options: ConversionOptions) -> "TurnListLane | None":
    """Return the lane of records like this one, or None."""
    source_format = find_format(record, only=options.format)
    module = None if source_format is None else _FORMATS.get(source_format.name)
    if module is None:
        return None
    names = key_names(record)
    lists = [key for name, key in names.items() if name in _EXCLUSIVE]
    systems = [names[name] for name in SYSTEM_KEYS if name in names]
    if len(lists) != 1 or len(systems) > 1 or len(names) != len(record):
        return None
    turns = record[lists[0]]
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict) or len(turns[0]) != 2:
        return None
    roles = [key for key in turns[0] if key in module.ROLES]
    contents = [key for key in turns[0] if key in module.CONTENTS]
    if len(roles) != 1 or len(contents) != 1:
        return None
    keys = Keys(lists[0], roles[0], contents[0], systems[0] if systems else None)
    turn = pa.struct([(keys.role, pa.string()), (keys.content, pa.string())])
    fields = [pa.field(keys.turns, pa.list_(turn)), *(pa.field(key, pa.string()) for key in systems)]
    metadata = metadata_of(record, {keys.turns, *systems})
    return TurnListLane(module.NAME, tuple(record), tuple(fields), metadata, keys)


@dataclass(frozen=True)
class TurnListLane(Lane):
    """The lane of records with a list of turns."""

    turn_keys: Keys

    def records(self, columns: Columns, described: Described) -> LaneRecords:
        lists = columns[self.turn_keys.turns]
        speakers, texts = lists.values.field(0), Texts(lists.values.field(1))
        bounds = np.asarray(lists.offsets).astype(np.int64)
        spelled = speakers.dictionary_encode()
        names = spelled.dictionary.to_pylist()
        codes = [_UNKNOWN if (role := role_of(name)) is None else ROLE_CODES[role] for name in names]
        indices = np.asarray(spelled.indices.fill_null(len(codes)))
        roles = np.array([*codes, _UNKNOWN], np.uint8)[indices]
        turns = Turns(roles, texts, bounds)
        # A null text counts as blank, which is refused later.
        flags = nulls_of(lists) | turns.conversations_with((roles == _UNKNOWN) | tagged(texts))
        flags |= _shared_roles(names, codes, indices, bounds)
        if self.turn_keys.system is not None:
            turns = _with_systems(turns, columns[self.turn_keys.system])
        reasonings = pa.nulls(len(lists), pa.string())
        return LaneRecords(
            turns, reasonings, described.metadata, described.languages, flags | described.flags
        )

    def less_strict(self) -> "TurnListLane | None":
        if isinstance(self.metadata, RawMetadata):
            return None
        used = {field.name for field in self.fields}
        return replace(self, metadata=RawMetadata({*self.keys}, used))


def _shared_roles(names: list[str], codes: list[int], indices: Ints, bounds: Ints) -> Flags:
    """Flag the conversations in which several speakers share a role (`roles.share_a_role`).

    Args:
        names: The spellings of speakers.
        codes: The role of each spelling.
        indices: The spelling of each turn.
        bounds: As in Turns.
    """
    persons = {speaker_key(name): number for number, name in enumerate(names)}
    if len(persons) == len(set(codes)):
        return np.zeros(len(bounds) - 1, np.bool_)
    rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))

    def distinct(values: list[int]) -> Ints:
        """Count the distinct values in each conversation."""
        numbers = rows * (len(names) + 256) + np.array([*values, _UNKNOWN])[indices]
        return np.bincount(np.unique(numbers) // (len(names) + 256), minlength=len(bounds) - 1)

    return distinct([persons[speaker_key(name)] for name in names]) > distinct(codes)


def _with_systems(turns: Turns, systems: pa.Array) -> Turns:
    """Insert the system texts that are not blank as first turns."""
    systems = systems.fill_null("")
    given = ~blank(Texts(systems))
    before = turns.bounds[:-1][given]
    # Indices into the system texts, followed by the turns.
    indices = np.insert(np.arange(len(turns.roles)) + len(systems), before, np.flatnonzero(given))
    contents = pa.concat_arrays([systems, turns.texts.array]).take(pa.array(indices))
    return Turns(
        np.insert(turns.roles, before, ROLE_CODES["system"]),
        Texts(contents),
        bounds_of(np.diff(turns.bounds) + given),
    )
