"""CSV rows with recovery: a misplaced or unclosed quote costs only its own line."""

from collections import deque
from collections.abc import Iterator
import csv
import sys
from typing import NamedTuple

from pixel_pipeline.conversations.containers.streams import Line, LineReader
from pixel_pipeline.conversations.model.records import MAX_RECORD_BYTES, RecordError, count

_LEAST_BUDGET = 16 << 20
_MOST_BUDGET = 64 << 20

# The csv module's own limit of 131,072 characters a cell would reject long sessions; it has no limit per reader.
csv.field_size_limit(min(sys.maxsize, MAX_RECORD_BYTES))


class Row(NamedTuple):
    """One row.

    Attributes:
        offset: Offset of its first byte.
        cells: Its cells.
        raw: Its bytes.
        error: Why it is not a row, if it is not.
    """

    offset: int
    cells: list[str]
    raw: bytes
    error: RecordError | None = None


class Rows:
    """The rows of a CSV text.

    The csv module takes lines until a row ends. The lines of the current row are kept, so that they can be given back if its quotes
    turn out wrong: at text after a closing quote, at the end of the text, or when the search for the closing quote exceeds half
    of a budget. The budget of 16 MiB grows by twice the size of rows that were read and shrinks by text that was searched in
    vain, so a text full of stray quotes still takes linear time.

    Attributes:
        text: The text that rows are taken from.
        ended_in_quotes: Whether a quote was open at the end of the text.
    """

    def __init__(self, text: LineReader, *, delimiter: str, repaired: dict[str, int]) -> None:
        self.text = text
        self.ended_in_quotes = False
        self._repaired = repaired
        self._delimiter = delimiter
        self._given_back: deque[Line] = deque()
        self._taken: list[Line] = []
        self._taken_size = 0
        self._budget = _LEAST_BUDGET
        self._open = False

    def __iter__(self) -> Iterator[Row]:
        while True:
            # Strict, because otherwise an unclosed quote would silently join its row with the next quoted one.
            reader = csv.reader(self._feed(), delimiter=self._delimiter, strict=True)
            try:
                for cells in reader:
                    offset = self._taken[0].offset
                    too_large = any(line.size > MAX_RECORD_BYTES for line in self._taken)
                    raw = self._take()
                    if too_large:
                        reason = f"a line of more than {MAX_RECORD_BYTES >> 20} MiB"
                        yield Row(offset, [], raw, RecordError("too_large", reason))
                    elif not is_blank(cells):
                        yield Row(offset, cells, raw)
            except csv.Error:
                yield self._give_back()
            else:
                return

    @property
    def is_between(self) -> bool:
        """Whether the next row begins with the next byte of the text."""
        return not self._given_back and not self._taken

    def grow_budget(self, size: int) -> None:
        """Allow a longer search after good rows of this size."""
        self._budget = min(_MOST_BUDGET, self._budget + 2 * size)

    def _give_back(self) -> Row:
        """Refuse the first line, so that the next row begins after it."""
        first, *others = self._taken
        self._given_back.extendleft(reversed(others))
        self._budget += 2 * (first.size + 1) - self._taken_size
        self._taken, self._taken_size = [], 0
        if self._open:
            self._open = False
            reason = f"a quote is not closed in this line and {len(others)} more"
            return Row(first.offset, [], first.data, RecordError("unclosed_quote", reason))
        reason = "text behind a closing quote, or a carriage return outside quotes"
        return Row(first.offset, [], first.data, RecordError("bad_quoting", reason))

    def _feed(self) -> Iterator[str]:
        """Yield lines to the csv module; stop early, with `_open` set, if the current row takes too many."""
        while not self._taken or self._taken_size <= self._budget // 2:
            line = self._given_back.popleft() if self._given_back else self.text.line()
            if line is None:
                self.ended_in_quotes = self.ended_in_quotes or bool(self._taken)
                break
            self._taken.append(line)
            self._taken_size += line.size + 1
            yield _decoded(line.data)
        # The csv module asked for one more line within a row: a quote is open.
        self._open = bool(self._taken)

    def _take(self) -> bytes:
        lines = [line.data for line in self._taken]
        count_returns(lines, self._repaired)
        self.grow_budget(self._taken_size)
        self._taken, self._taken_size = [], 0
        return b"\n".join(lines)


def first_cells(lines: list[bytes], delimiter: str) -> list[str]:
    """Return the cells of the row that these lines are."""
    return next(csv.reader(map(_decoded, lines), delimiter=delimiter, strict=True))


def sampled_cells(text: bytes, delimiter: str, *, most_rows: int) -> list[list[str]]:
    """Return the cells of the first rows that are not empty, up to the first bad row."""
    rows: list[list[str]] = []
    try:
        for cells in csv.reader(map(_decoded, text.split(b"\n")), delimiter=delimiter):
            rows.append(cells)
            if len(rows) == most_rows:
                break
    except csv.Error:
        pass
    return [cells for cells in rows if any(cells)]


def is_blank(cells: list[str]) -> bool:
    """Whether a row is a blank line."""
    return not cells or (len(cells) == 1 and not cells[0].strip())


def count_returns(lines: list[bytes], repaired: dict[str, int]) -> None:
    """Count the carriage returns before line feeds within a row, which are dropped."""
    if len(lines) > 1:
        count(repaired, "line_ends", sum(line.endswith(b"\r") for line in lines[:-1]))


def is_utf8(cells: list[str]) -> bool:
    """Whether a row had no invalid bytes."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        # `_decoded` turned them into lone surrogates.
        return False
    return True


def _decoded(line: bytes) -> str:
    """Return a line for the csv module; bytes that are not UTF-8 become lone surrogates."""
    return line.removesuffix(b"\r").decode("utf-8", "surrogateescape") + "\n"
