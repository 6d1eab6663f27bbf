"""Files of a checkpoint on their way into the lake: sent in parts, and proven to have arrived. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import hashlib
from pathlib import Path
from typing import Self

from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.errors import ObjectCorruptError

MIN_PART_BYTES = 8 * 1024**2
# S3 takes 10,000.
MAX_PARTS = 9_000
_READ_BYTES = 1024**2


def part_bytes(size: int) -> int:
    """Size of the parts in which a file of so many bytes is sent: 8 MiB; more above 70 GiB, for S3 counts the parts."""
    return max(MIN_PART_BYTES, -(-size // MAX_PARTS))


@dataclass(frozen=True)
class FileDigest:
    """What a file is known by. `etag` is what S3 answers with to an upload in our parts, unless it encrypts with other keys."""

    sha256: str
    bytes: int
    etag: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file once."""
        size = path.stat().st_size
        part = part_bytes(size)
        sha256 = hashlib.sha256()
        parts: list[bytes] = []
        with path.open("rb") as file:
            for start in range(0, max(size, 1), part):
                md5 = hashlib.md5(usedforsecurity=False)
                left = min(part, size - start)
                while left and (chunk := file.read(min(left, _READ_BYTES))):
                    sha256.update(chunk)
                    md5.update(chunk)
                    left -= len(chunk)
                parts.append(md5.digest())
        if len(parts) == 1:
            etag = parts[0].hex()
        else:
            etag = f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
        return cls(sha256=sha256.hexdigest(), bytes=size, etag=etag)


@dataclass
class LocalFiles:
    """The files of one finished folder, by name, and what is known of their copies in the lake.

    Attributes:
        digests: Of each file.
    """

    folder: Path
    digests: Mapping[str, FileDigest]
    # ETags of copies that were read back.
    _read_back: dict[str, str] = field(default_factory=dict)

    @classmethod
    def scan(cls, folder: Path) -> Self:
        """All files of a folder but hidden ones. Reads each once."""
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        return cls(folder=folder, digests={path.name: FileDigest.of(path) for path in paths})

    def upload(self, bucket: Bucket, *, key: str, name: str, lies: ObjectInfo | None) -> None:
        """See to it that an object has the bytes of a file. What is proven to lie there already is not sent.

        The proof is the ETag: the MD5 of the file, or of its parts' MD5s. Where a store's ETags are something else, the object is
        read back and its SHA-256 compared.

        Args:
            lies: What a listing shows at the key.

        Raises:
            ObjectCorruptError: other bytes arrived.
        """
        wanted = self.digests[name]
        proofs = (wanted.etag, self._read_back.get(name))
        if lies is not None and lies.size == wanted.bytes and lies.etag in proofs:
            return
        etag = bucket.put(key, self.folder / name, part_bytes=part_bytes(wanted.bytes))
        if etag == wanted.etag:
            return
        with bucket.open(key, etag=etag) as stored:
            sha256 = hashlib.sha256()
            while chunk := stored.read(_READ_BYTES):
                sha256.update(chunk)
        found = sha256.hexdigest()
        if found != wanted.sha256:
            raise ObjectCorruptError(
                f"{bucket.uri(key)} has SHA-256 {found[:12]}…, {wanted.sha256[:12]}… was sent.",
                hint="It is sent again. If it stays so, check the network and this machine's memory.",
            )
        self._read_back[name] = etag
