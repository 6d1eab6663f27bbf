"""A Word document: the whole object is one text, one line a paragraph.

A table row with two cells becomes `first: second`, because transcripts are often set as tables.
"""

from collections.abc import Iterator
from xml.etree import ElementTree

from pixel_pipeline.conversations.containers.container import Evidence, Input
from pixel_pipeline.conversations.containers.packed.archives import ZIP_MAGIC, zip_file
from pixel_pipeline.conversations.containers.random_access import DAMAGE, WatchedStream
from pixel_pipeline.conversations.model.records import MAX_RECORD_BYTES, Fault, ObjectError, Record

NAME = "word_document"
POSITION_KIND = "object"
IS_TEXT = False
_PART = "word/document.xml"
_SPACE = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_BREAKS = {f"{_SPACE}tab": "\t", f"{_SPACE}br": "\n", f"{_SPACE}cr": "\n", f"{_SPACE}noBreakHyphen": "-"}


def matches(given: Input) -> Evidence:
    if not given.head.startswith(ZIP_MAGIC[0]):
        return Evidence(False, "it is not a zip archive, so not a Word document")
    try:
        found = _PART in zip_file(WatchedStream(given.original)).namelist()
    except ObjectError:
        return Evidence(False, "it is a damaged zip archive")
    with_text = "with" if found else "without"
    return Evidence(found, f"it is a zip archive {with_text} the text of a Word document")


def read(given: Input) -> Iterator[Record | Fault]:
    watched = WatchedStream(given.original)
    archive = zip_file(watched)
    size = archive.getinfo(_PART).file_size
    if size > MAX_RECORD_BYTES:
        reason = f"a text of {size >> 20} MiB of XML, more than {MAX_RECORD_BYTES >> 20} MiB"
        raise ObjectError("too_large", reason)
    try:
        with archive.open(_PART) as stream:
            xml = stream.read(size + 1)
        if b"<!DOCTYPE" in xml[:4096] or b"<!ENTITY" in xml:
            raise ObjectError("corrupt_word", "the XML declares entities, which no Word document does")
        root = ElementTree.fromstring(xml)  # noqa: S314 - entities are refused above
    except (ElementTree.ParseError, *DAMAGE) as error:
        raise watched.fault(error, "corrupt_word", "not readable as a Word document") from None
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
