"""CSV: one record a row below the header, as an object of texts; positions are byte offsets.

The delimiter is one of `,` `;` tab `|`. Cells may contain line ends. An unclosed quote would swallow rows up to the next quote or
the end of the object: only the line that opens it is quarantined, and reading continues after it.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from functools import partial
import io

import numpy as np

from pixel_pipeline.conversations.containers.container import Evidence, Input, Range
from pixel_pipeline.conversations.containers.csv.dialect import best_dialect, delimiter_of, dialects_of
from pixel_pipeline.conversations.containers.csv.header import unique_names
from pixel_pipeline.conversations.containers.csv.row_bounds import row_bounds
from pixel_pipeline.conversations.containers.csv.rows import (
    Row,
    Rows,
    count_returns,
    first_cells,
    is_blank,
    is_utf8,
)
from pixel_pipeline.conversations.containers.streams import LineReader, PeekableStream
from pixel_pipeline.conversations.model.records import Block, Fault, Item, Record, RecordError, Table, count

NAME = "csv_table"
POSITION_KIND = "byte"
IS_TEXT = True


def matches(given: Input) -> Evidence:
    """Whether the text is a table under one of the delimiters.

    A table has a header of short names, and at least 60 % of the first rows are as wide. Lines of a transcript have commas too: if
    the first cells begin with a speaker, the text is a transcript.
    """
    dialects = dialects_of(given)
    best = best_dialect(dialects)
    if best is not None:
        return Evidence(True, best.described)
    if not dialects:
        return Evidence(False, "under no delimiter its first line is a header of short names")
    likely = max(dialects)
    return Evidence(False, f"{likely.described}{likely.objection}")


def read(given: Input) -> Iterator[Item]:
    delimiter = delimiter_of(given)
    return iter(read_rows(given.content, start=given.start, delimiter=delimiter, repaired=given.repaired))


def read_rows(
    content: PeekableStream,
    *,
    start: int,
    delimiter: str,
    repaired: Counter[str],
    header: list[str] | None = None,
) -> Range:
    """Read a table, or a range of one that begins with a row; it does not end at a boundary if a quote is open.

    Args:
        start: Offset of its first byte.
        header: Names of the columns (`read_header`) if the text does not begin with them.
    """
    rows = Rows(LineReader(content, start=start), delimiter=delimiter, repaired=repaired)
    return Range(_records(rows, delimiter, header, repaired))


def read_header(given: Input) -> tuple[str, list[str]]:
    """Return the delimiter of a table and the names of its columns."""
    delimiter = delimiter_of(given)
    head = LineReader(PeekableStream(io.BytesIO(given.head)), start=given.start)
    rows = Rows(head, delimiter=delimiter, repaired=Counter())
    return delimiter, next((unique_names(row.cells) for row in rows if row.error is None), [])


def _records(
    rows: Rows, delimiter: str, header: list[str] | None, repaired: Counter[str]
) -> Generator[Item, None, bool]:
    """Yield rows in blocks while their quotes are correct; after a wrong quote, row by row to the end of the block."""
    one_by_one = iter(rows)
    while header is None:
        if (first := next(one_by_one, None)) is None:
            return not rows.ended_in_quotes
        if first.error is None:
            header = unique_names(first.cells)
        else:
            yield Fault.of(first.offset, first.raw, first.error)
    table = Table(tuple(header), delimiter)
    while True:
        end, block = _take_block(rows, table, repaired)
        if block is not None:
            yield block
        if rows.text.done:
            return not rows.ended_in_quotes
        if rows.text.offset == end:
            continue
        for row in one_by_one:
            yield _record(row, table.header, repaired)
            if rows.text.offset >= end and rows.is_between:
                break
        else:
            return not rows.ended_in_quotes


def _take_block(rows: Rows, table: Table, repaired: dict[str, int]) -> tuple[int, Block | None]:
    """Take rows whose quotes are correct. Also return the offset up to which rows have to be taken one by one."""
    offset, text = rows.text.offset, rows.text.block()
    bounds = row_bounds(text, table.delimiter, ended=rows.text.ended)
    # A row that continues after the block begins the next one, unless it is longer than a block.
    end = offset + (bounds.size if bounds.in_order and bounds.size else max(len(text), 1))
    rows.text.take(bounds.size)
    rows.grow_budget(bounds.size)
    kept = np.ones(len(bounds.starts), np.bool_)
    for index in np.flatnonzero(bounds.delimiters == 0).tolist():
        lines = text[bounds.starts[index] : bounds.ends[index]].split(b"\n")
        if is_blank(first_cells(lines, table.delimiter)):
            kept[index] = False
            count_returns(lines, repaired)
    if not kept.any():
        return end, None
    starts, ends, irregular = bounds.starts[kept], bounds.ends[kept], bounds.returns[kept]
    read_one = partial(_read_one, table=table)
    return end, Block(text[: bounds.size], starts, ends, offset + starts, read_one, table, irregular)


def _read_one(position: int, raw: bytes, repaired: dict[str, int], *, table: Table) -> Record | Fault:
    """Parse one row of a block."""
    lines = raw.split(b"\n")
    cells = first_cells(lines, table.delimiter)
    count_returns(lines, repaired)
    return _record(Row(position, cells, raw), table.header, repaired)


def _record(row: Row, header: Sequence[str], repaired: dict[str, int]) -> Record | Fault:
    cells, error, width = row.cells, row.error, len(header)
    if error is None and len(cells) > width and not any(cells[width:]):
        cells = cells[:width]
        count(repaired, "empty_extra_cells")
    if error is None and len(cells) != width:
        error = RecordError("ragged_row", f"{len(cells)} cells, the header has {width}")
    if error is None and not is_utf8(cells):
        error = RecordError("bad_encoding", "the row holds bytes that are not valid UTF-8")
    if error is not None:
        return Fault.of(row.offset, row.raw, error)
    return Record(row.offset, dict(zip(header, cells, strict=True)), row.raw)
