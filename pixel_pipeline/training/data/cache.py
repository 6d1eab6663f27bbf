"""Local copies of lake objects, named by their SHA-256. Torch-free."""

from hashlib import file_digest
from pathlib import Path

from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.training.errors import TrainingDataError


def cached_object(bucket: Bucket, key: str, *, sha256: str, folder: Path) -> Path:
    """A verified local copy of an object, downloaded only if it is missing or damaged.

    Args:
        sha256: Expected, in hex; checked at each use.
        folder: The cache, shared by all datasets.

    Raises:
        TrainingDataError: the object's SHA-256 differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sha256}{Path(key).suffix}"
    if path.exists() and file_sha256(path) == sha256:
        return path
    bucket.download(key, path)
    found = file_sha256(path)
    if found != sha256:
        path.unlink()
        raise TrainingDataError(
            f"{bucket.uri(key)} has SHA-256 {found[:12]}…, its manifest {sha256[:12]}….",
            hint="Materialize token_shards again.",
        )
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
