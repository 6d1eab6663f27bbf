"""Workbooks (Excel, and exported Google Sheets): each sheet is a table of its own.

The first row that can be a header is one; every cell becomes text, as in CSV.
"""

from collections.abc import Callable, Iterator
import datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar
import zipfile

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError

from pixel_pipeline.conversations.containers.container import Input, Opened
from pixel_pipeline.conversations.containers.csv.header import is_header, unique_names
from pixel_pipeline.conversations.containers.packed.archives import ZIP_MAGIC, Archive, Member, zip_file
from pixel_pipeline.conversations.containers.random_access import DAMAGE, WatchedStream
from pixel_pipeline.conversations.model.records import Fault, ObjectError, Record

MAX_XML_BYTES = 256 << 20
"""Maximum unpacked size: a workbook is read whole."""
_PARTS = frozenset(("xl/workbook.xml", "xl/workbook.bin"))
_HEADER_ROWS = 10
_T = TypeVar("_T")


def _matches(given: Input) -> bool:
    if not given.head.startswith(ZIP_MAGIC[0]):
        return False
    try:
        return not _PARTS.isdisjoint(zip_file(WatchedStream(given.original)).namelist())
    except ObjectError:
        return False


def _members(given: Input) -> Iterator[Member]:
    watched = WatchedStream(given.original)
    _translated(watched, lambda: _refuse_bombs(zip_file(watched)))
    book = _translated(watched, lambda: CalamineWorkbook.from_filelike(watched))
    for name in book.sheet_names:
        try:
            sheet = _translated(watched, partial(book.get_sheet_by_name, name))
        except ObjectError as error:
            yield Member(name, 0, error=error)
            continue
        yield Member(name, 0, opened=_table(sheet))


WORKBOOK = Archive("workbook", _matches, _members)


def _refuse_bombs(parts: zipfile.ZipFile) -> None:
    """Unpack everything once: the library unpacks everything into memory, whatever size the archive claims."""
    size = sum(part.file_size for part in parts.infolist())
    if size > MAX_XML_BYTES:
        reason = f"{size >> 20} MiB unpacked, more than {MAX_XML_BYTES >> 20} MiB: save it as CSV"
        raise ObjectError("too_large", reason)
    if parts.testzip() is not None:
        raise zipfile.BadZipFile


def _translated(watched: WatchedStream, read: Callable[[], _T]) -> _T:
    watched.seek(0)
    try:
        return read()
    except PasswordError:
        raise ObjectError("encrypted", "the workbook has a password") from None
    except (CalamineError, *DAMAGE) as error:
        raise watched.fault(error, "corrupt_workbook", "not readable as a workbook") from None
    except BaseException as error:
        # A panic of the library is not an Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise ObjectError("corrupt_workbook", "not readable as a workbook (panic)") from None


def _table(sheet: CalamineSheet) -> Opened:
    rows = ([_text(cell) for cell in row] for row in sheet.iter_rows())
    filled = (row for row in rows if any(row))
    for row in islice(filled, _HEADER_ROWS):
        if is_header(_trimmed(row)):
            return Opened("workbook", "binary", "row", _records(_trimmed(row), filled))
    return Opened("workbook", "binary", "row", iter(()), "not_a_dataset")


def _records(header: list[str], rows: Iterator[list[str]]) -> Iterator[Record | Fault]:
    names = unique_names(header)
    width = len(names)
    for position, row in enumerate(rows):
        if any(row[width:]):
            reason = f"{len(_trimmed(row))} cells, the header has {width}"
            yield Fault(position, None, 0, "ragged_row", reason)
        else:
            yield Record(position, dict(zip(names, row[:width], strict=True)), None)


def _trimmed(row: list[str]) -> list[str]:
    while row and not row[-1]:
        row = row[:-1]
    return row


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)
