"""Archives, zip and tar: each member is opened as an object of its own. Nothing is written under a member's name.

A kind of archive has a name, a look at the first bytes, and a reader that hands out Members.
"""

from collections.abc import Callable, Iterator
import io
import stat
import tarfile
from typing import BinaryIO, NamedTuple
import zipfile
import zlib

from pixel_pipeline.conversations.containers.opened import Input, Opened
from pixel_pipeline.conversations.containers.packed.unpacking import Budget
from pixel_pipeline.conversations.containers.random_access import WatchedStream
from pixel_pipeline.conversations.model.records import ObjectError

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
MAX_MEMBERS = 100_000
MAX_NAME = 1024
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    tarfile.TarError,
)


class Member(NamedTuple):
    """One member of an archive.

    Attributes:
        name: As it stands in the archive; a number is added to one that comes again.
        size: Bytes unpacked, as the archive has it.
        content: Its bytes, to be read before the next member is asked for; None where there is nothing to read.
        opened: Its records, where it is no object of its own but a part such as a sheet.
        dropped: Why it is no record, as "link".
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


def _is_zip(given: Input) -> bool:
    return given.head.startswith(ZIP_MAGIC)


def _is_tar(given: Input) -> bool:
    return given.head[257:262] == b"ustar"


def zip_file(watched: WatchedStream) -> zipfile.ZipFile:
    """Opens a zip archive, without reading the directory of one that has far too many members.

    Raises:
        ObjectError: `corrupt_zip` or `too_many_members`.
    """
    try:
        if _zip_entries(watched) > MAX_MEMBERS:
            raise ObjectError("too_many_members", f"more than {MAX_MEMBERS} members")
        return zipfile.ZipFile(watched)  # type: ignore[arg-type]
    except _DAMAGE as error:
        raise _damaged(watched, error, "corrupt_zip") from None


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
            except _DAMAGE as error:
                yield Member(name, info.file_size, error=_damaged(watched, error, "corrupt_zip"))
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
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                if info.isdir():
                    continue
                name = _unique(info.name, seen)
                # A tar archive packs nothing, but what it says of the size of a sparse file may be anything.
                content = archive.extractfile(info) if info.isreg() and not info.issparse() else None
                if content is None:
                    yield Member(name, info.size, dropped="link")
                else:
                    yield Member(name, info.size, MemberStream(content, watched, None, "corrupt_tar"))
    except _DAMAGE as error:
        raise _damaged(watched, error, "corrupt_tar") from None
    # The library takes a header that is cut off for the end; the end is marked by zeros.
    if watched.last.strip(b"\0"):
        raise ObjectError("corrupt_tar", "the archive ends early")


ZIP = Archive("zip", _is_zip, _zip_members)
TAR = Archive("tar", _is_tar, _tar_members)


class MemberStream(io.RawIOBase):
    """Bytes of a member.

    Raises:
        ObjectError: damage, or more than the archive can hold, when reading gets there.
    """

    def __init__(self, content: object, watched: WatchedStream, budget: Budget | None, damage: str) -> None:
        self._content = content
        self._watched = watched
        self._budget = budget
        self._damage = damage

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            part = self._content.read(len(buffer))  # type: ignore[attr-defined]
        except _DAMAGE as error:
            raise _damaged(self._watched, error, self._damage) from None
        if self._budget is not None:
            self._budget.spend(len(part))
        buffer[: len(part)] = part
        return len(part)


def _damaged(watched: WatchedStream, error: Exception, error_class: str) -> ObjectError:
    """Returns the fault of an archive; an error of the stream itself passes."""
    if watched.error is not None:
        raise watched.error from None
    return ObjectError(error_class, f"the archive is damaged ({type(error).__name__})")


def _unique(name: str, seen: set[str]) -> str:
    base = name.encode("utf-8", "replace").decode()[:MAX_NAME]
    unique, n = base, 2
    while unique in seen:
        unique, n = f"{base}~{len(seen)}", n + 1
    seen.add(unique)
    return unique


def _zip_entries(watched: WatchedStream) -> int:
    """Returns how many members the directory at the end of a zip archive is said to have; 0 where there is none."""
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
    # The directory may be longer than it says: an entry takes 46 bytes at least.
    return max(
        entries,
        int.from_bytes(tail[at + 12 : at + 16], "little") // (46 + MAX_NAME) if entries != 0xFFFF else 0,
    )
