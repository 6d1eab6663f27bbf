"""Reading records of a block into Arrow columns, if they are well-formed and exactly match a schema."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from pixel_pipeline.conversations.convert.lanes.lane import Columns
from pixel_pipeline.conversations.model.records import Block, Table

_NEW_LINE, _RETURN, _OPEN, _CLOSE = b"\n\r{}"


def read_columns(block: Block, start: int, end: int, schema: pa.Schema, *, strict: bool) -> Columns | None:
    """Read consecutive records of a block.

    Args:
        start, end: Indices of the records.
        schema: Columns to read; a record without one of them has null there.
        strict: Whether records with any other key are rejected; otherwise other keys are ignored, also within the columns.

    Returns:
        The columns, one value a record; None if Arrow cannot read all records as such.
    """
    text = memoryview(block.data)[block.starts[start] : block.ends[end - 1]]
    try:
        if block.table is not None:
            table = _rows_table(block.table, text, schema)
        else:
            table = _json_table(block, start, end, text, schema, strict=strict)
        if table is None or table.num_rows != end - start:
            return None
        if block.table is None and not block.data.isascii():
            table.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError):
        # The message may quote the text. The slow path finds the bad record and its error.
        return None
    columns = {name: _one_chunk(table[name]) for name in schema.names}
    if any(columns[field.name].type != field.type for field in schema):
        return None
    return columns


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _json_table(
    block: Block, start: int, end: int, text: memoryview, schema: pa.Schema, *, strict: bool
) -> pa.Table | None:
    # Arrow reads values, not lines. If there are as many values as lines, and each line begins and ends like an object, each line
    # is one object, because within an object a comma follows each inner end. Also, Arrow crashes on a block that begins with null.
    data = np.frombuffer(block.data, np.uint8)
    first, last = block.starts[start:end], block.ends[start:end] - 1
    last = last - (data[last] == _RETURN)
    if (data[first] != _OPEN).any() or (data[last] != _CLOSE).any():
        return None
    return pa_json.read_json(
        pa.BufferReader(pa.py_buffer(text)),
        read_options=pa_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
        parse_options=pa_json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="error" if strict else "infer"
        ),
    )


def _rows_table(table: Table, text: memoryview, schema: pa.Schema) -> pa.Table | None:
    # Arrow would drop these bytes at the beginning of a text as a byte order mark.
    if bytes(text[:3]) == b"\xef\xbb\xbf" or {*schema.names} != {*table.header}:
        return None
    return pa_csv.read_csv(
        pa.BufferReader(pa.py_buffer(text)),
        read_options=pa_csv.ReadOptions(
            use_threads=False, block_size=len(text) + 1, column_names=list(table.header)
        ),
        parse_options=pa_csv.ParseOptions(delimiter=table.delimiter, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=schema, null_values=[], strings_can_be_null=False, quoted_strings_can_be_null=False
        ),
    )
