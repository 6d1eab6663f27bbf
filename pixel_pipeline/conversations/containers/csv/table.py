"""CSV: one record a row below the header, as an object of texts; positions are byte offsets.

The delimiter is one of `,` `;` tab `|`. Cells may hold line ends. A quote that is not closed would swallow
rows up to the next quote or to the end of the object: only the line that opens it is quarantined, and reading
goes on behind it.
"""

from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
import csv
from functools import lru_cache, partial
import io
from itertools import islice
import sys
from typing import NamedTuple

import numpy as np

from pixel_pipeline.conversations.containers.csv.blocks import RowText, row_bounds
from pixel_pipeline.conversations.containers.csv.header import TEXT_COLUMNS, is_header, unique_names
from pixel_pipeline.conversations.containers.opened import PROBE_BYTES, Evidence, Input
from pixel_pipeline.conversations.containers.ranges import Range
from pixel_pipeline.conversations.containers.streams import Line, PeekableStream
from pixel_pipeline.conversations.formats.texts.transcript import speaker_share
from pixel_pipeline.conversations.model.records import (
    MAX_RECORD_BYTES,
    Block,
    Fault,
    Item,
    Record,
    Table,
)

NAME = "csv_table"
POSITION_KIND = "byte"
IS_TEXT = True
_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_LEAST_BUDGET = 16 << 20
_MOST_BUDGET = 64 << 20

# The module's own limit of 131,072 characters a cell would cut long sessions; it has no per-reader setting.
csv.field_size_limit(min(sys.maxsize, MAX_RECORD_BYTES))


def matches(given: Input) -> Evidence:
    """Whether the text is a table under one of the delimiters.

    A table has a header of short names, and at least 60 % of the first rows are as wide. Lines of a
    transcript have commas too: where first cells start with a speaker, it is a transcript.
    """
    tables = _tables(given)
    best = _best(tables)
    if best is not None:
        return Evidence(True, best.described)
    if not tables:
        return Evidence(False, "under no delimiter its first line is a header of short names")
    likely = max(tables)
    return Evidence(False, f"{likely.described}{likely.but}")


def read(given: Input) -> Iterator[Item]:
    delimiter = _delimiter(given)
    return iter(read_rows(given.content, start=given.start, delimiter=delimiter, repaired=given.repaired))


def read_rows(
    content: PeekableStream,
    *,
    start: int,
    delimiter: str,
    repaired: Counter[str],
    header: list[str] | None = None,
) -> Range:
    """Reads a table, or a range of one that begins with a row; it ends at no boundary where a quote is open.

    Args:
        content: The text.
        start: Offset of its first byte.
        header: Names of the columns (`read_header`) where the text does not begin with them.
    """
    rows = _Rows(RowText(content, start=start), delimiter=delimiter, repaired=repaired)
    return Range(_records(rows, header, repaired))


def read_header(given: Input) -> tuple[str, list[str]]:
    """Returns the delimiter of a table and the names of its columns."""
    delimiter = _delimiter(given)
    head = RowText(PeekableStream(io.BytesIO(given.head)), start=given.start)
    rows = _Rows(head, delimiter=delimiter, repaired=Counter())
    return delimiter, next((unique_names(row) for _, row, _, error in rows if error is None), [])


def _records(rows: "_Rows", header: list[str] | None, repaired: Counter[str]) -> Generator[Item, None, bool]:
    """Rows in blocks, as long as their quotes stand as they should; behind one that does not, row by row to the block's end."""
    one_by_one = iter(rows)
    while header is None:
        if (first := next(one_by_one, None)) is None:
            return not rows.ended_in_quotes
        position, row, raw, error = first
        if error is None:
            header = unique_names(row)
        else:
            yield Fault(position, raw, len(raw), *error)
    while True:
        end, block = rows.take_block(header)
        if block is not None:
            yield block
        if rows.text.done:
            return not rows.ended_in_quotes
        if rows.text.offset == end:
            continue
        for found in one_by_one:
            yield _record(*found, header, repaired)
            if rows.text.offset >= end and rows.is_between:
                break
        else:
            return not rows.ended_in_quotes


def _record(
    position: int,
    row: list[str],
    raw: bytes,
    error: tuple[str, str] | None,
    header: Sequence[str],
    repaired: dict[str, int],
) -> Record | Fault:
    width = len(header)
    if error is None and len(row) > width and not any(row[width:]):
        row = row[:width]
        repaired["empty_extra_cells"] = repaired.get("empty_extra_cells", 0) + 1
    if error is None and len(row) != width:
        error = ("ragged_row", f"{len(row)} cells, the header has {width}")
    if error is None and not _is_utf8(row):
        error = ("bad_encoding", "the row holds bytes that are not valid UTF-8")
    if error is not None:
        return Fault(position, raw, len(raw), *error)
    return Record(position, dict(zip(header, row, strict=True)), raw)


def _is_utf8(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        # `_decoded` left a lone surrogate.
        return False
    return True


def _read_one(position: int, raw: bytes, repaired: dict[str, int], *, table: Table) -> Record | Fault:
    """A row of a block, read alone."""
    lines = raw.split(b"\n")
    row = _row_of(lines, table.delimiter)
    _count_returns(lines, repaired)
    return _record(position, row, raw, None, table.header, repaired)


def _row_of(lines: list[bytes], delimiter: str) -> list[str]:
    return next(csv.reader(map(_decoded, lines), delimiter=delimiter, strict=True))


def _count_returns(lines: list[bytes], repaired: dict[str, int]) -> None:
    if len(lines) > 1 and (n := sum(line.endswith(b"\r") for line in lines[:-1])):
        repaired["line_ends"] = repaired.get("line_ends", 0) + n


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


class _Rows:
    """Rows of a CSV text, each with its offset, its bytes and, where it is no row, the reason.

    The csv module reads lines until a row ends. The lines taken for the present row are kept, so that they
    can be given back when its quotes turn out wrong: at text behind a closing quote, at the end, or after as
    much text as one search may cover. That is half of a budget of 16 MiB and twice what was read, less what
    was searched in vain: a text full of stray quotes takes linear time.

    Attributes:
        text: What the rows are taken from.
        ended_in_quotes: A quote was open where the text ends.
    """

    def __init__(self, text: RowText, *, delimiter: str, repaired: Counter[str]) -> None:
        self.text = text
        self.ended_in_quotes = False
        self._repaired = repaired
        self._delimiter = delimiter
        self._given_back: deque[Line] = deque()
        self._taken: list[Line] = []
        self._taken_size = 0
        self._budget = _LEAST_BUDGET
        self._open = False

    def __iter__(self) -> Iterator[tuple[int, list[str], bytes, tuple[str, str] | None]]:
        while True:
            # Strict, or a quote that is not closed would join its row and the next quoted one without a word.
            reader = csv.reader(self._feed(), delimiter=self._delimiter, strict=True)
            try:
                for row in reader:
                    offset = self._taken[0].offset
                    too_large = any(line.size > MAX_RECORD_BYTES for line in self._taken)
                    raw = self._take()
                    if too_large:
                        reason = f"a line of more than {MAX_RECORD_BYTES >> 20} MiB"
                        yield offset, [], raw, ("too_large", reason)
                    elif not _is_blank(row):
                        yield offset, row, raw, None
            except csv.Error:
                first, error = self._give_back()
                yield first.offset, [], first.data, error
            else:
                return

    @property
    def is_between(self) -> bool:
        """Whether the next row begins with the first byte of the text that was not taken."""
        return not self._given_back and not self._taken

    def take_block(self, header: list[str]) -> tuple[int, Block | None]:
        """Takes rows whose quotes stand as they should.

        Returns:
            Offset up to which rows have to be taken one by one, and the rows.
        """
        offset, text = self.text.offset, self.text.block()
        bounds = row_bounds(text, self._delimiter, ended=self.text.ended)
        # A row that goes on behind the block begins the next one, unless it is longer than a block.
        end = offset + (bounds.size if bounds.in_order and bounds.size else max(len(text), 1))
        self.text.take(bounds.size)
        self._grow_budget(bounds.size)
        kept = np.ones(len(bounds.starts), np.bool_)
        for index in np.flatnonzero(bounds.delimiters == 0).tolist():
            lines = text[bounds.starts[index] : bounds.ends[index]].split(b"\n")
            if _is_blank(_row_of(lines, self._delimiter)):
                kept[index] = False
                _count_returns(lines, self._repaired)
        if not kept.any():
            return end, None
        starts, ends, returns = bounds.starts[kept], bounds.ends[kept], bounds.returns[kept]
        table = Table(tuple(header), self._delimiter)
        read_one = partial(_read_one, table=table)
        return end, Block(text[: bounds.size], starts, ends, offset + starts, read_one, table, returns)

    def _give_back(self) -> tuple[Line, tuple[str, str]]:
        """Takes the first line as bad, so that the row begins anew behind it."""
        first, *others = self._taken
        self._given_back.extendleft(reversed(others))
        self._budget += 2 * (first.size + 1) - self._taken_size
        self._taken, self._taken_size = [], 0
        if self._open:
            self._open = False
            return first, (
                "unclosed_quote",
                f"a quote is not closed in this line and {len(others)} more",
            )
        return first, ("bad_quoting", "text behind a closing quote, or a carriage return outside quotes")

    def _feed(self) -> Iterator[str]:
        """Hands lines to the csv module; ends early, with `_open` set, when the present row takes too
        many."""
        while not self._taken or self._taken_size <= self._budget // 2:
            line = self._given_back.popleft() if self._given_back else self.text.line()
            if line is None:
                self.ended_in_quotes = self.ended_in_quotes or bool(self._taken)
                break
            self._taken.append(line)
            self._taken_size += line.size + 1
            yield _decoded(line.data)
        # Asked for one more line while a row was not ended: a quote is open.
        self._open = bool(self._taken)

    def _take(self) -> bytes:
        lines = [line.data for line in self._taken]
        _count_returns(lines, self._repaired)
        self._grow_budget(self._taken_size)
        self._taken, self._taken_size = [], 0
        return b"\n".join(lines)

    def _grow_budget(self, size: int) -> None:
        self._budget = min(_MOST_BUDGET, self._budget + 2 * size)


def _decoded(line: bytes) -> str:
    """Returns a line as the csv module wants it; bytes that are not UTF-8 become lone surrogates, to be found
    in the row."""
    return line.removesuffix(b"\r").decode("utf-8", "surrogateescape") + "\n"


def _sample_rows(text: bytes, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in islice(csv.reader(map(_decoded, text.split(b"\n")), delimiter=delimiter), _SAMPLE_ROWS):
            if any(row):
                rows.append(row)
    except csv.Error:
        pass  # what stands before the bad row is sample enough
    return rows


class _Table(NamedTuple):
    """What a text is under one delimiter: how large a share of the first rows is as wide as the header, how wide that is, and
    why it is no table all the same ("" where it is one)."""

    share: float
    width: int
    delimiter: str
    but: str

    @property
    def described(self) -> str:
        sign = "tabs" if self.delimiter == "\t" else f"`{self.delimiter}`"
        columns = f"{self.width} columns by {sign}" if self.width > 1 else "one column"
        return f"{columns}, {self.share:.0%} of the first rows as wide"


def _tables(given: Input) -> list[_Table]:
    """What the text is under each delimiter that makes its first line a header."""
    return _tables_of(given.head, given.name.endswith((".csv", ".tsv")))


# Asked several times of an object: whether it is a table, under which delimiter, and with which header.
@lru_cache(maxsize=1)
def _tables_of(head: bytes, named: bool) -> list[_Table]:
    if len(head) >= PROBE_BYTES:
        head = head[: head.rfind(b"\n") + 1]
    tables = []
    for delimiter in _DELIMITERS:
        rows = _sample_rows(head, delimiter)
        if not rows or not is_header(rows[0]) or (len(rows) < 2 and not named):
            continue
        width, body = len(rows[0]), rows[1:]
        share = sum(len(row) == width for row in body) / max(1, len(body))
        but = ""
        if body and share < (0.3 if named else 0.6):
            but = ", too few"
        elif body and width > 1 and (spoken := _spoken_share(rows[0][0], [row[0] for row in body])) > 0.3:
            but = f", but {spoken:.0%} of the lines begin with a speaker"
        tables.append(_Table(share, width, delimiter, but))
    return tables


def _spoken_share(name: str, cells: list[str]) -> float:
    """Returns which part of the first column's lines starts with a speaker; 0 where that is what a table holds there: under a
    column of that name, or with line ends, which only a quoted cell has."""
    if name.strip().lower() in TEXT_COLUMNS or any("\n" in cell for cell in cells):
        return 0.0
    return speaker_share("\n".join(cells))


def _best(tables: list[_Table]) -> _Table | None:
    return max((table for table in tables if not table.but), key=lambda table: table[:2], default=None)


def _delimiter(given: Input) -> str:
    """Returns the delimiter under which the text is a table; where it is none, and a rule says it is, the one that the first
    line holds most of."""
    best = _best(_tables(given))
    first = given.head.split(b"\n", 1)[0].decode("utf-8", "replace")
    return best.delimiter if best is not None else max(_DELIMITERS, key=first.count)
