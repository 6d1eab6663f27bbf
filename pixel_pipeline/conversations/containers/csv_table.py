"""CSV: one record a row below the header, as an object of texts; positions are byte offsets.

The delimiter is one of `,` `;` tab `|`. Cells may hold line ends. A quote that is not closed would swallow
rows up to the next quote or to the end of the object: only the line that opens it is quarantined, and reading
goes on behind it.
"""

from collections import Counter, deque
from collections.abc import Generator, Iterator
import csv
import io
from itertools import islice
import sys
from typing import NamedTuple

from pixel_pipeline.conversations.containers.header import TEXT_COLUMNS, is_header, unique_names
from pixel_pipeline.conversations.containers.opened import PROBE_BYTES, Evidence, Input
from pixel_pipeline.conversations.containers.ranges import Range
from pixel_pipeline.conversations.containers.streams import Line, PeekableStream, iter_lines
from pixel_pipeline.conversations.formats.transcript import speaker_share
from pixel_pipeline.conversations.records import MAX_RECORD_BYTES, Fault, Item, Record

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
    rows = _Rows(content, start=start, delimiter=delimiter, repaired=repaired)
    return Range(_records(rows, header, repaired))


def read_header(given: Input) -> tuple[str, list[str]]:
    """Returns the delimiter of a table and the names of its columns."""
    delimiter = _delimiter(given)
    head = PeekableStream(io.BytesIO(given.head))
    rows = _Rows(head, start=given.start, delimiter=delimiter, repaired=Counter())
    return delimiter, next((unique_names(row) for _, row, _, error in rows if error is None), [])


def _records(rows: "_Rows", header: list[str] | None, repaired: Counter[str]) -> Generator[Item, None, bool]:
    for position, row, raw, error in rows:
        if header is None and error is None:
            header = unique_names(row)
            continue
        width = len(header or ())
        if error is None and len(row) > width and not any(row[width:]):
            row = row[:width]
            repaired["empty_extra_cells"] += 1
        if error is None and len(row) != width:
            error = ("ragged_row", f"{len(row)} cells, the header has {width}")
        if error is None and any(
            "\udc80" <= letter <= "\udcff" for cell in row if not cell.isascii() for letter in cell
        ):
            error = ("bad_encoding", "the row holds bytes that are not valid UTF-8")
        if error is not None:
            yield Fault(position, raw, len(raw), *error)
        else:
            yield Record(position, dict(zip(header or (), row, strict=True)), raw)
    return not rows.ended_in_quotes


class _Rows:
    """Rows of a CSV text, each with its offset, its bytes and, where it is no row, the reason.

    The csv module reads lines until a row ends. The lines taken for the present row are kept, so that they
    can be given back when its quotes turn out wrong: at text behind a closing quote, at the end, or after as
    much text as one search may cover. That is half of a budget of 16 MiB and twice what was read, less what
    was searched in vain: a text full of stray quotes takes linear time.

    Attributes:
        ended_in_quotes: A quote was open where the text ends.
    """

    def __init__(
        self, content: PeekableStream, *, start: int, delimiter: str, repaired: Counter[str]
    ) -> None:
        self.ended_in_quotes = False
        self._lines = iter_lines(content, offset=start)
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
                    elif row and not (len(row) == 1 and not row[0].strip()):
                        yield offset, row, raw, None
            except csv.Error:
                first, error = self._give_back()
                yield first.offset, [], first.data, error
            else:
                return

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
            line = self._given_back.popleft() if self._given_back else next(self._lines, None)
            if line is None:
                self.ended_in_quotes = self.ended_in_quotes or bool(self._taken)
                break
            self._taken.append(line)
            self._taken_size += line.size + 1
            yield _decoded(line.data)
        # Asked for one more line while a row was not ended: a quote is open.
        self._open = bool(self._taken)

    def _take(self) -> bytes:
        raw = b"\n".join(line.data for line in self._taken)
        if len(self._taken) > 1 and (n := sum(line.data.endswith(b"\r") for line in self._taken[:-1])):
            self._repaired["line_ends"] += n
        self._budget = min(_MOST_BUDGET, self._budget + 2 * self._taken_size)
        self._taken, self._taken_size = [], 0
        return raw


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
    head = given.head
    if len(head) >= PROBE_BYTES:
        head = head[: head.rfind(b"\n") + 1]
    named = given.name.endswith((".csv", ".tsv"))
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
