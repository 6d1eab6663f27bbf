"""Archives, zip and tar: each member is opened as an object of its own. Nothing is written under a member's name.

A kind of archive has a name, a test of the first bytes, and a reader that yields Members.
"""

from collections.abc import Callable, Iterator
import io
import stat
import tarfile
from typing import IO, BinaryIO, NamedTuple
import zipfile

from pixel_pipeline.conversations.containers.container import Input, Opened
from pixel_pipeline.conversations.containers.packed.unpacking import Budget
from pixel_pipeline.conversations.containers.random_access import DAMAGE, WatchedStream
from pixel_pipeline.conversations.containers.streams import PartStream
from pixel_pipeline.conversations.model.records import ObjectError

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
MAX_MEMBERS = 100_000
MAX_NAME = 1024
_DAMAGED = "the archive is damaged"


class Member(NamedTuple):
    """One member of an archive.

    Attributes:
        name: Its name in the archive, with a number if it occurs again.
        size: Unpacked size in bytes, according to the archive.
        content: Its bytes, to be read before the next member is taken; None if there is nothing to read.
        opened: Its records, if it is not an object of its own but a part such as a sheet.
        dropped: Why it is not a record, such as "link".
        error: Why it cannot be read.
    """

    name: str
    size: int
    content: BinaryIO | io.RawIOBase | None = None
    opened: Opened | None = None
    dropped: str | None = None
    error: ObjectError | None = None


class Archive(NamedTuple):
    """One kind of archive."""

    name: str
    matches: Callable[[Input], bool]
    members: Callable[[Input], Iterator[Member]]


def zip_file(watched: WatchedStream) -> zipfile.ZipFile:
    """Open a zip archive, without reading the directory of one that has far too many members.

    Raises:
        ObjectError: `corrupt_zip` or `too_many_members`.
    """
    try:
        if _zip_entries(watched) > MAX_MEMBERS:
            raise ObjectError("too_many_members", f"more than {MAX_MEMBERS} members")
        return zipfile.ZipFile(watched)  # type: ignore[arg-type]
    except DAMAGE as error:
        raise watched.fault(error, "corrupt_zip", _DAMAGED) from None


def _zip_members(given: Input) -> Iterator[Member]:
    watched = WatchedStream(given.original)
    archive = zip_file(watched)
    names = set(archive.namelist())
    if "[Content_Types].xml" in names or {"mimetype", "content.xml"} <= names:
        raise ObjectError(
            "unsupported_container", "an Office document of this kind: save it as .docx, .xlsx or text"
        )
    budget = Budget("zip")
    seen: set[str] = set()
    for info in archive.infolist():
        if info.filename.endswith("/"):
            continue
        name = _unique(info.filename, seen)
        budget.packed += info.compress_size + 100
        if stat.S_ISLNK(info.external_attr >> 16):
            yield Member(name, info.file_size, dropped="link")
        elif info.flag_bits & 1:
            yield Member(name, info.file_size, error=ObjectError("encrypted", "the member has a password"))
        else:
            try:
                content = archive.open(info)
            except DAMAGE as error:
                fault = watched.fault(error, "corrupt_zip", _DAMAGED)
                if not isinstance(fault, ObjectError):
                    raise fault from None
                yield Member(name, info.file_size, error=fault)
                continue
            with content:
                yield Member(name, info.file_size, MemberStream(content, watched, budget, "corrupt_zip"))


def _tar_members(given: Input) -> Iterator[Member]:
    watched = WatchedStream(given.content)
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=watched, mode="r|") as archive:  # type: ignore[call-overload]
            for count, info in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise ObjectError("too_many_members", f"more than {MAX_MEMBERS} members")
                archive.members.clear()  # type: ignore[attr-defined]  # or it keeps all of them
                if info.isdir():
                    continue
                name = _unique(info.name, seen)
                # A tar archive does not compress, but a sparse file may claim any size.
                content = archive.extractfile(info) if info.isreg() and not info.issparse() else None
                if content is None:
                    yield Member(name, info.size, dropped="link")
                else:
                    yield Member(name, info.size, MemberStream(content, watched, None, "corrupt_tar"))
    except DAMAGE as error:
        raise watched.fault(error, "corrupt_tar", _DAMAGED) from None
    # The library treats a truncated header as the end of the archive; a real end is marked by zeros.
    if watched.last.strip(b"\0"):
        raise ObjectError("corrupt_tar", "the archive ends early")


ZIP = Archive("zip", lambda given: given.head.startswith(ZIP_MAGIC), _zip_members)
TAR = Archive("tar", lambda given: given.head[257:262] == b"ustar", _tar_members)


class MemberStream(PartStream):
    """Bytes of a member.

    Raises:
        ObjectError: The member is damaged, or larger than the archive can hold; raised once reading gets there.
    """

    def __init__(
        self, content: IO[bytes], watched: WatchedStream, budget: Budget | None, error_class: str
    ) -> None:
        self._content = content
        self._watched = watched
        self._budget = budget
        self._error_class = error_class

    def read_part(self, limit: int) -> bytes:
        try:
            part: bytes = self._content.read(limit)
        except DAMAGE as error:
            raise self._watched.fault(error, self._error_class, _DAMAGED) from None
        if self._budget is not None:
            self._budget.spend(len(part))
        return part


def _unique(name: str, seen: set[str]) -> str:
    base = name.encode("utf-8", "replace").decode()[:MAX_NAME]
    unique, n = base, len(seen)
    while unique in seen:
        unique, n = f"{base}~{n}", n + 1
    seen.add(unique)
    return unique


def _zip_entries(watched: WatchedStream) -> int:
    """Return the number of members according to the directory at the end of a zip archive; 0 if there is none."""
    size = watched.seek(0, io.SEEK_END)
    watched.seek(max(0, size - (1 << 16) - 22))
    tail = watched.read()
    watched.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        return 0
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    wide = tail.rfind(b"PK\x06\x06", 0, at)
    if wide >= 0:
        entries = max(entries, int.from_bytes(tail[wide + 32 : wide + 40], "little"))
    # The directory may hold more entries than it claims; each takes at least 46 bytes.
    by_size = int.from_bytes(tail[at + 12 : at + 16], "little") // (46 + MAX_NAME)
    return entries if entries == 0xFFFF else max(entries, by_size)
