"""Local copies of lake objects, named by their SHA-256. Torch-free."""

from hashlib import file_digest
from pathlib import Path

from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.training.errors import TrainingDataError


def cached_object(bucket: Bucket, key: str, *, sha256: str, folder: Path) -> Path:
    """A local file with the object's bytes, downloaded only if it is not there yet.

    Args:
        sha256: What the manifest promises, in hex; checked at each use, so a damaged copy is never read.
        folder: The cache; files of any number of datasets share it.

    Raises:
        TrainingDataError: the object's bytes are not those that the manifest promises.
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
            f"{bucket.uri(key)} has SHA-256 {found[:12]}…, its manifest says {sha256[:12]}….",
            hint="Materialize token_shards again.",
        )
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
