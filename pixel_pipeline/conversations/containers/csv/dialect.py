"""Detection of a CSV text's delimiter."""

from functools import lru_cache
from typing import NamedTuple

from pixel_pipeline.conversations.containers.container import PROBE_BYTES, Input
from pixel_pipeline.conversations.containers.csv.header import TEXT_COLUMNS, is_header
from pixel_pipeline.conversations.containers.csv.rows import sampled_cells
from pixel_pipeline.conversations.formats.texts.transcript import speaker_share

_DELIMITERS = ",;\t|"
_SAMPLED_ROWS = 50


class Dialect(NamedTuple):
    """A text read under one delimiter.

    Attributes:
        share: Share of the first rows that are as wide as the header.
        width: Width of the header.
        delimiter: The delimiter.
        objection: Why the text is not a table; "" if it is.
    """

    share: float
    width: int
    delimiter: str
    objection: str

    @property
    def described(self) -> str:
        sign = "tabs" if self.delimiter == "\t" else f"`{self.delimiter}`"
        columns = f"{self.width} columns by {sign}" if self.width > 1 else "one column"
        return f"{columns}, {self.share:.0%} of the first rows as wide"


def dialects_of(given: Input) -> list[Dialect]:
    """Read the text under each delimiter that makes its first line a header."""
    return _dialects(given.head, given.name.endswith((".csv", ".tsv")))


def best_dialect(dialects: list[Dialect]) -> Dialect | None:
    """Return the best dialect under which the text is a table, or None."""
    tables = (dialect for dialect in dialects if not dialect.objection)
    return max(tables, key=lambda dialect: dialect[:2], default=None)


def delimiter_of(given: Input) -> str:
    """Return the delimiter of a table. If a rule alone calls the text a table, it is the most frequent one of the first line."""
    best = best_dialect(dialects_of(given))
    if best is not None:
        return best.delimiter
    first = given.head.split(b"\n", 1)[0].decode("utf-8", "replace")
    return max(_DELIMITERS, key=first.count)


# Called several times for an object: for the decision, the delimiter and the header.
@lru_cache(maxsize=1)
def _dialects(head: bytes, named: bool) -> list[Dialect]:
    if len(head) >= PROBE_BYTES:
        head = head[: head.rfind(b"\n") + 1]
    dialects = []
    for delimiter in _DELIMITERS:
        rows = sampled_cells(head, delimiter, most_rows=_SAMPLED_ROWS)
        if not rows or not is_header(rows[0]) or (len(rows) < 2 and not named):
            continue
        width, body = len(rows[0]), rows[1:]
        share = sum(len(row) == width for row in body) / max(1, len(body))
        objection = ""
        if body and share < (0.3 if named else 0.6):
            objection = ", too few"
        elif body and width > 1 and (spoken := _spoken_share(rows[0][0], [row[0] for row in body])) > 0.3:
            objection = f", but {spoken:.0%} of the lines begin with a speaker"
        dialects.append(Dialect(share, width, delimiter, objection))
    return dialects


def _spoken_share(name: str, cells: list[str]) -> float:
    """Return the share of the first column's lines that begin with a speaker.

    It is 0 for a column that may hold dialogues: by its name, or because cells have line ends, which requires quotes.
    """
    if name.strip().lower() in TEXT_COLUMNS or any("\n" in cell for cell in cells):
        return 0.0
    return speaker_share("\n".join(cells))
