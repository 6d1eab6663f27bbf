"""A Word document: the whole object is one text, a line a paragraph. The row of a table with two cells becomes `first: second`,
as transcripts are often set."""

from collections.abc import Iterator
from xml.etree import ElementTree
import zipfile
import zlib

from pixel_pipeline.conversations.containers.opened import Evidence, Input
from pixel_pipeline.conversations.containers.packed.archives import ZIP_MAGIC, zip_file
from pixel_pipeline.conversations.containers.random_access import WatchedStream
from pixel_pipeline.conversations.model.records import MAX_RECORD_BYTES, Fault, ObjectError, Record

NAME = "word_document"
POSITION_KIND = "object"
IS_TEXT = False
_PART = "word/document.xml"
_SPACE = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_BREAKS = {f"{_SPACE}tab": "\t", f"{_SPACE}br": "\n", f"{_SPACE}cr": "\n", f"{_SPACE}noBreakHyphen": "-"}


def matches(given: Input) -> Evidence:
    if not given.head.startswith(ZIP_MAGIC[0]):
        return Evidence(False, "it is no zip archive, which Word documents are")
    try:
        found = _PART in zip_file(WatchedStream(given.original)).namelist()
    except ObjectError:
        return Evidence(False, "it is a zip archive that cannot be read")
    return Evidence(
        found, f"it is a zip archive {'with' if found else 'without'} the text of a Word document"
    )


def read(given: Input) -> Iterator[Record | Fault]:
    part = zip_file(WatchedStream(given.original))
    size = part.getinfo(_PART).file_size
    if size > MAX_RECORD_BYTES:
        raise ObjectError(
            "too_large", f"a text of {size >> 20} MiB of XML, more than {MAX_RECORD_BYTES >> 20} MiB"
        )
    try:
        with part.open(_PART) as stream:
            xml = stream.read(size + 1)
        if b"<!DOCTYPE" in xml[:4096] or b"<!ENTITY" in xml:
            raise ObjectError("corrupt_word", "the XML declares entities, which no Word document does")
        root = ElementTree.fromstring(xml)  # noqa: S314 - entities are refused above
    except (
        ElementTree.ParseError,
        OSError,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ObjectError(
            "corrupt_word", f"not readable as a Word document ({type(error).__name__})"
        ) from None
    yield Record(0, "\n".join(_lines(root)), None)


def _lines(root: ElementTree.Element) -> Iterator[str]:
    pending = [root]
    while pending:
        element = pending.pop()
        if element.tag == f"{_SPACE}p":
            yield _text(element)
        elif element.tag == f"{_SPACE}tr":
            cells = ["\n".join(map(_text, cell.iter(f"{_SPACE}p"))) for cell in element.iter(f"{_SPACE}tc")]
            yield (": " if len(cells) == 2 else "\t").join(cells)
        else:
            pending.extend(reversed(element))


def _text(paragraph: ElementTree.Element) -> str:
    parts = (
        (run.text or "") if run.tag == f"{_SPACE}t" else _BREAKS.get(str(run.tag), "")
        for run in paragraph.iter()
    )
    return "".join(parts)
