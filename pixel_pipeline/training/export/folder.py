"""The folder of an export, written atomically, with a record of its origin. Torch-free."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
import errno
import os
from pathlib import Path
import shutil
from typing import Any, Self

import orjson

from pixel_pipeline.registry.base_models import FileDigest
from pixel_pipeline.training.data.cache import file_sha256
from pixel_pipeline.training.export.errors import ExportCorruptError, ExportError

FORMAT = "pixel-export/1"
RECORD = "export.json"


@dataclass(frozen=True)
class ExportRecord:
    """`export.json`: the origin of an export.

    Attributes:
        kind: `mixtral` or `adapter`.
        dtype: Dtype of the weights: `bf16` or `fp32`.
        base: Name of the base model, for `open_base`.
        adapter: Source of the adapters: a local folder, or the `s3://` URI of a checkpoint.
        adapter_sha256: SHA-256 of their tensors.
    """

    kind: str
    dtype: str
    base: str
    base_digest: str
    adapter: str
    adapter_sha256: str
    files: Mapping[str, FileDigest]

    @property
    def bytes(self) -> int:
        """Total size of the files."""
        return sum(file.bytes for file in self.files.values())

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        content = orjson.dumps(
            {"format": FORMAT, **asdict(self)}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
        )
        (folder / RECORD).write_bytes(content)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it from a folder.

        Raises:
            ExportCorruptError: the folder has no valid record.
        """
        try:
            content: dict[str, Any] = orjson.loads((folder / RECORD).read_bytes())
            if content.pop("format") != FORMAT:
                raise KeyError
            files = {name: FileDigest(**file) for name, file in content.pop("files").items()}
            return cls(files=files, **content)
        except (
            FileNotFoundError,
            NotADirectoryError,
            orjson.JSONDecodeError,
            KeyError,
            TypeError,
            AttributeError,
        ):
            raise ExportCorruptError(
                f"{folder} is no export: it has no {RECORD} of one.",
                hint="Make one: `pixel export CHECKPOINT --output FOLDER`.",
            ) from None

    def check(self, folder: Path) -> None:
        """Compare every file with its digest.

        Raises:
            ExportCorruptError: a file is missing or changed.
        """
        for name, file in self.files.items():
            path = folder / name
            if not path.is_file():
                raise ExportCorruptError(f"{path} is missing.", hint="Export again.")
            if path.stat().st_size != file.bytes or file_sha256(path) != file.sha256:
                raise ExportCorruptError(f"{path} is not the file that was exported.", hint="Export again.")


@contextmanager
def atomic_folder(target: Path, *, bytes: int) -> Iterator[Path]:
    """Yield a temporary folder that becomes the target if the block succeeds, and is deleted otherwise.

    Args:
        bytes: Size of the export, compared with the free disk space.

    Raises:
        ExportError: the target exists and is not empty, or the disk is full.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"{target} exists already.", hint="Choose another folder, or delete it.")
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.absolute().parent).free
    if free < bytes:
        raise ExportError(
            f"The export takes {bytes:,} bytes; the disk of {target} has {free:,} free.",
            hint="Make room, choose another disk with --output, or export as bf16.",
        )
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(
                f"The disk of {target} is full; the export takes {bytes:,} bytes.",
                hint="Make room, and export again.",
            ) from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
