"""The metadata of records in a lane: from columns if all values are plain, else record by record."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.conversations.formats import metadata
from pixel_pipeline.conversations.model.columns import Flags, Texts, nulls_of
from pixel_pipeline.conversations.model.records import Block, RecordError

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREADABLE = (
    orjson.JSONDecodeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RecordError,
)  # fmt: skip


class Described(NamedTuple):
    """Metadata and languages of many records.

    Attributes:
        flags: Flags records that need the slow path.
    """

    metadata: pa.Array
    languages: pa.Array
    flags: Flags


def metadata_of(record: dict[str, Any], used: set[str]) -> "LaneMetadata":
    """Return how metadata of records like this one is made, apart from the keys that are used."""
    kinds = {key: _PLAIN.get(type(value)) for key, value in record.items() if key not in used}
    raw = RawMetadata({*record}, used)
    return raw if None in kinds.values() else ColumnMetadata(kinds, raw)


class ColumnMetadata:
    """Texts, numbers and truth values, written as JSON a column at a time; `raw` describes records with other values."""

    def __init__(self, kinds: dict[str, pa.DataType], raw: "RawMetadata") -> None:
        self.fields = [pa.field(key, kind) for key, kind in kinds.items()]
        self._raw = raw
        self._keys = sorted(kinds)
        self._language = next((key for key in metadata.LANGUAGE_KEYS if kinds.get(key) == pa.string()), None)

    def of_columns(self, columns: Mapping[str, pa.Array], block: Block, start: int) -> Described:
        """Describe records by their columns; they are the records of a block from `start` on."""
        n = len(next(iter(columns.values())))
        unsure = np.zeros(n, np.bool_)
        languages = pa.nulls(n, pa.string())
        pieces: list[Any] = []
        for key in self._keys:
            column = columns[key]
            unsure |= nulls_of(column)
            if key == self._language:
                languages = _languages(column)
                unsure |= nulls_of(languages)
                continue
            pieces += [f"{',' if pieces else '{'}{orjson.dumps(key).decode()}:", _json_texts(column, unsure)]
        described = pc.binary_join_element_wise(*pieces, "}", "") if pieces else pa.repeat("{}", n)
        if not unsure.any():
            return Described(described, languages, unsure)
        raw = [
            self._raw.of_bytes(block, start + index, start + index + 1)
            for index in np.flatnonzero(unsure).tolist()
        ]
        mask = pa.array(unsure)
        unsure[unsure] = np.concatenate([one.flags for one in raw])
        return Described(
            pc.replace_with_mask(described, mask, pa.concat_arrays([one.metadata for one in raw])),
            pc.replace_with_mask(languages, mask, pa.concat_arrays([one.languages for one in raw])),
            unsure,
        )


class RawMetadata:
    """Values of any kind, read and written again as JSON, record by record."""

    def __init__(self, keys: set[str], used: set[str]) -> None:
        self.fields: list[pa.Field] = []  # it needs no columns
        self._keys = keys
        self._used = used

    def of_bytes(self, block: Block, start: int, end: int) -> Described:
        """Describe records of a block by their bytes."""
        n = end - start
        described = ["{}"] * n
        languages: list[str | None] = [None] * n
        flags = np.zeros(n, np.bool_)
        data = memoryview(block.data)
        bounds = zip(block.starts[start:end].tolist(), block.ends[start:end].tolist(), strict=True)
        for index, (first, last) in enumerate(bounds):
            try:
                record = _RAW.decode(data[first:last])
                if record.keys() != self._keys:
                    flags[index] = True
                    continue
                rest = {
                    key: orjson.loads(memoryview(value))
                    for key, value in record.items()
                    if key not in self._used
                }
                languages[index], rest = metadata.split_language(rest)
                described[index] = metadata.dump(rest)
            except _UNREADABLE:
                flags[index] = True
        return Described(pa.array(described, pa.string()), pa.array(languages, pa.string()), flags)


LaneMetadata = ColumnMetadata | RawMetadata


def _languages(column: pa.Array) -> pa.Array:
    """Languages as tags; null for values that are not tags and stay metadata."""
    spelled = column.fill_null("").dictionary_encode()
    tags = [metadata.split_language({"language": name})[0] for name in spelled.dictionary.to_pylist()]
    return pa.array(tags, pa.string()).take(spelled.indices)


def _json_texts(column: pa.Array, unsure: Flags) -> pa.Array:
    """Values as orjson writes them; flags values whose spelling a column does not preserve."""
    if pa.types.is_boolean(column.type):
        return pc.if_else(column.fill_null(False), "true", "false")
    if pa.types.is_integer(column.type):
        return column.fill_null(0).cast(pa.string())
    if pa.types.is_floating(column.type):
        values = column.fill_null(0).to_numpy()
        # A whole number may be written without a decimal point.
        unsure |= ~np.isfinite(values) | (np.floor(values) == values)
        listed = orjson.dumps(np.where(np.isfinite(values), values, 0.5).tolist())
        return pa.array(listed[1:-1].decode().split(","), pa.string())
    texts = column.fill_null("")
    data = Texts(texts).data
    if ((data < 0x20) | (data == ord('"')) | (data == ord("\\"))).any():
        return pa.array([orjson.dumps(text).decode() for text in texts.to_pylist()], pa.string())
    return pc.binary_join_element_wise('"', texts, '"', "")
