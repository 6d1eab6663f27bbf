"""Commits where the store has no conditional writes: made on a local copy of a table's log, then uploaded.

delta-rs commits by conditional writes alone on S3; on a local disk it needs none. Safe only while nobody else commits, which
`Lake.writing` sees to for the processes of one machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import tempfile

from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError

POINTER = "_last_checkpoint"


@contextmanager
def mirrored_log(bucket: Bucket, key: str) -> Iterator[Path]:
    """A local folder with the log of the table at a key. What is new in it afterwards is uploaded, the log entry first."""
    prefix = f"{key}/_delta_log"
    with tempfile.TemporaryDirectory(prefix="pixel-log-") as folder:
        log = Path(folder) / "_delta_log"
        oldest = _checkpoint(bucket, prefix)
        for item in bucket.list(prefix):
            name = item.key.removeprefix(f"{prefix}/")
            if "/" not in name and (name == POINTER or name[:20] >= f"{oldest:020}"):
                log.mkdir(exist_ok=True)
                bucket.download(item.key, log / name)
        before = _contents(log)
        yield Path(folder)
        new = [name for name, content in _contents(log).items() if before.get(name) != content]
        # The entry is the commit. A checkpoint repeats it, and the pointer must not come before its checkpoint.
        for name in sorted(new, key=lambda name: (name == POINTER, not name.endswith(".json"), name)):
            bucket.put(f"{prefix}/{name}", (log / name).read_bytes())


def _checkpoint(bucket: Bucket, prefix: str) -> int:
    """Version that readers start from."""
    try:
        return int(bucket.get_json(f"{prefix}/{POINTER}")["version"])
    except ObjectNotFoundError:
        return 0


def _contents(log: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in log.glob("*") if path.is_file()}
