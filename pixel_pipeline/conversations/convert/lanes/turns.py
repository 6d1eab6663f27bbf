"""Records with a list of turns of two keys each, one for the speaker and one for the text."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pixel_pipeline.conversations.convert.lanes.besides import Besides, RawBesides, besides_of
from pixel_pipeline.conversations.convert.lanes.shape import Columns, Lane, Said, bounds_of, nulls_of
from pixel_pipeline.conversations.formats.fields import key_names
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.formats.roles import role_of, who
from pixel_pipeline.conversations.formats.turn_lists import chatml, sharegpt
from pixel_pipeline.conversations.model.columns import Flags, Ints, Texts, blank, tagged
from pixel_pipeline.conversations.model.identity import ROLE_CODES
from pixel_pipeline.conversations.model.options import ConversionOptions

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
        "response",
        "output",
        "answer",
    ]
)
_SYSTEMS = ("system", "system_prompt")
_UNKNOWN = 255


class Place(NamedTuple):
    """Where a record says what: the key of its turns, those of speaker and text in each, and that of a system text."""

    turns: str
    role: str
    content: str
    system: str | None


def lane_of(record: dict[str, Any], options: ConversionOptions) -> "TurnLane | None":
    """The lane of records like this one; None where they have none."""
    source_format = find_format(record, only=options.format)
    if source_format is None or source_format.name not in _SPELLINGS:
        return None
    names = key_names(record)
    meant = [key for name, key in names.items() if name in _MEANT]
    systems = [names[name] for name in _SYSTEMS if name in names]
    if len(meant) != 1 or len(systems) > 1 or len(names) != len(record):
        return None
    turns = record[meant[0]]
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict) or len(turns[0]) != 2:
        return None
    roles, contents = _SPELLINGS[source_format.name]
    role = [key for key in turns[0] if key in roles]
    content = [key for key in turns[0] if key in contents]
    if len(role) != 1 or len(content) != 1:
        return None
    place = Place(meant[0], role[0], content[0], systems[0] if systems else None)
    return TurnLane(
        source_format.name,
        tuple(record),
        place=place,
        besides=besides_of(record, {place.turns, *systems}),
    )


class TurnLane(Lane):
    """The lane of records with a list of turns."""

    def __init__(self, format_name: str, keys: tuple[str, ...], *, place: Place, besides: Besides) -> None:
        self._place = place
        turn = pa.struct([(place.role, pa.string()), (place.content, pa.string())])
        fields = [pa.field(place.turns, pa.list_(turn))]
        if place.system is not None:
            fields.append(pa.field(place.system, pa.string()))
        super().__init__(format_name, keys, fields, besides)

    def said(self, columns: Columns) -> Said:
        lists = columns[self._place.turns]
        turns = lists.values
        speakers, texts = turns.field(0), Texts(turns.field(1))
        bounds = np.asarray(lists.offsets).astype(np.int64)
        spelled = speakers.dictionary_encode()
        names = spelled.dictionary.to_pylist()
        codes = [_UNKNOWN if (role := role_of(name)) is None else ROLE_CODES[role] for name in names]
        indices = np.asarray(spelled.indices.fill_null(len(codes)))
        roles = np.array([*codes, _UNKNOWN], np.uint8)[indices]
        # A text that is null is a blank one, which no conversation may have.
        wrong = (roles == _UNKNOWN) | tagged(texts)
        flags = nulls_of(lists)
        flags[np.searchsorted(bounds, np.flatnonzero(wrong), side="right") - 1] = True
        flags |= _share_a_role(names, codes, roles=roles, indices=indices, bounds=bounds)
        said = Said(roles, texts, bounds, pa.nulls(len(lists), pa.string()), flags)
        return said if self._place.system is None else _opened(said, columns[self._place.system])

    def rougher(self) -> "TurnLane | None":
        if not self.besides.is_known:
            return None
        used = {key for key in (self._place.turns, self._place.system) if key is not None}
        return TurnLane(
            self.format_name, self.keys, place=self._place, besides=RawBesides({*self.keys}, used)
        )


def _share_a_role(
    names: list[str], codes: list[int], *, roles: npt.NDArray[np.uint8], indices: Ints, bounds: Ints
) -> Flags:
    """Conversations in which speakers by different names have one role (`roles.share_a_role`).

    Args:
        names, codes: Each spelling and its role.
        indices: Of each turn, its spelling.
    """
    flags = np.zeros(len(bounds) - 1, np.bool_)
    persons = {
        who(name): n for n, (name, code) in enumerate(zip(names, codes, strict=True)) if code != _UNKNOWN
    }
    numbers = np.array([*(persons.get(who(name), -1) for name in names), -1])
    several = Counter(codes[n] for n in persons.values())
    for code in (code for code, n in several.items() if n > 1):
        turns = np.flatnonzero(roles == code)
        rows = np.searchsorted(bounds, turns, side="right") - 1
        differ = np.diff(numbers[indices[turns]]) != 0
        flags[rows[1:][differ & (np.diff(rows) == 0)]] = True
    return flags


def _opened(said: Said, systems: pa.Array) -> Said:
    """Conversations with the system texts that they have as their first turns."""
    systems = systems.fill_null("")
    opening = ~blank(Texts(systems))
    before = said.bounds[:-1][opening]
    # Of the system texts and, behind them, the turns.
    turns = np.insert(np.arange(len(said.roles)) + len(systems), before, np.flatnonzero(opening))
    contents = pa.concat_arrays([systems, said.texts.array]).take(pa.array(turns))
    return said._replace(
        roles=np.insert(said.roles, before, ROLE_CODES["system"]),
        texts=Texts(contents),
        bounds=bounds_of(np.diff(said.bounds) + opening),
    )
