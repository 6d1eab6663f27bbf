"""Records with a list of turns of two keys each, one for the speaker and one for the text."""

from typing import Any

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.columns import Texts, tagged
from pixel_pipeline.conversations.formats import chatml, find_format, sharegpt
from pixel_pipeline.conversations.formats.fields import key_names
from pixel_pipeline.conversations.identity import ROLE_CODES
from pixel_pipeline.conversations.lanes.besides import Besides, RawBesides, besides_of
from pixel_pipeline.conversations.lanes.shape import Columns, Lane, Said, nulls_of
from pixel_pipeline.conversations.options import ConversionOptions
from pixel_pipeline.conversations.roles import role_of

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


def lane_of(record: dict[str, Any], options: ConversionOptions) -> Lane | None:
    """The lane of records like this one; None where they have none."""
    source_format = find_format(record, only=options.format)
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
    return TurnLane(
        source_format.name,
        tuple(record),
        place=(meant[0], role[0], content[0]),
        besides=besides_of(record, {meant[0]}),
    )


class TurnLane(Lane):
    """The lane of records with a list of turns; `place` is its key, and the keys of speaker and text."""

    def __init__(
        self, format_name: str, keys: tuple[str, ...], *, place: tuple[str, str, str], besides: Besides
    ) -> None:
        self._place = place
        turns, role, content = place
        self._turn = pa.struct([(role, pa.string()), (content, pa.string())])
        super().__init__(format_name, keys, [pa.field(turns, pa.list_(self._turn))], besides)

    def said(self, columns: Columns) -> Said:
        lists = columns[self._place[0]]
        turns = lists.values
        speakers, contents = turns.field(0), turns.field(1)
        bounds = np.asarray(lists.offsets).astype(np.int64)
        spelled = speakers.dictionary_encode()
        codes = [
            _UNKNOWN if (role := role_of(name)) is None else ROLE_CODES[role]
            for name in spelled.dictionary.to_pylist()
        ]
        roles = np.array([*codes, _UNKNOWN], np.uint8)[np.asarray(spelled.indices.fill_null(len(codes)))]
        texts = Texts(contents)
        # A text that is null is a blank one, which no conversation may have.
        wrong = (roles == _UNKNOWN) | tagged(texts)
        flags = nulls_of(lists)
        flags[np.searchsorted(bounds, np.flatnonzero(wrong), side="right") - 1] = True
        return Said(roles, texts, bounds, pa.nulls(len(lists), pa.string()), flags)

    def rougher(self) -> "TurnLane | None":
        if not self.besides.is_known:
            return None
        besides = RawBesides({*self.keys}, {self._place[0]})
        return TurnLane(self.format_name, self.keys, place=self._place, besides=besides)
