"""Conditional writes: whether a store refuses to create an object twice, and what is done where it does not.

Commits to tables and create-only puts rest on `If-None-Match: *`. Some S3-compatible stores ignore it, some refuse it. On
those the lake is in single-writer mode: processes of one machine wait for each other's file lock, and two machines
must not write at once.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import fcntl
import hashlib
import logging
import os
from pathlib import Path
import threading
from typing import TYPE_CHECKING, Literal
import uuid

import orjson

from pixel_pipeline.lake.s3.errors import LakeAccessError, LakeUnsupportedError, ObjectExistsError

if TYPE_CHECKING:
    from pixel_pipeline.lake.s3.bucket import Bucket

PROBES = "_pixel/probe"
# Servers are upgraded: what one does is asked again after this time.
VERDICT_AGE = timedelta(days=7)

Verdict = Literal["honoured", "ignored", "refused"]

_logger = logging.getLogger("pixel_pipeline")
_warned = threading.Event()


def supports_conditional_create(bucket: "Bucket") -> bool:
    """Whether an object cannot be created twice. Asks the store, with a probe object that it removes."""
    return ask(bucket) == "honoured"


def ask(bucket: "Bucket") -> Verdict:
    """What the store does with a create of an object that is there: three requests below `_pixel/probe/`.

    Raises:
        LakeAccessError: the credentials may not write there.
        LakeUnreachableError: the endpoint does not answer.
    """
    key = f"{PROBES}/{uuid.uuid4().hex}"
    verdict: Verdict = "ignored"
    try:
        bucket.create(key, b"first")
        bucket.create(key, b"second")
    except ObjectExistsError:
        verdict = "honoured"
    except LakeUnsupportedError:
        verdict = "refused"
    # Whoever may write but not delete leaves a probe of six bytes.
    with suppress(LakeAccessError):
        bucket.delete([key])
    return verdict


def race_creates(bucket: "Bucket", *, writers: int = 16, key: str | None = None) -> int:
    """How many of so many threads that create one key at the same moment are told that they did: one, on a sound store.

    0 where the store refuses conditional writes at all. The probe object is removed.
    """
    key = key or f"{PROBES}/{uuid.uuid4().hex}"
    barrier = threading.Barrier(writers)

    def create(number: int) -> bool:
        barrier.wait()
        try:
            bucket.create(key, b"%d" % number)
        except (ObjectExistsError, LakeUnsupportedError):
            return False
        return True

    with ThreadPoolExecutor(writers) as pool:
        won = [*pool.map(create, range(writers))]
    bucket.delete([key])
    return sum(won)


@dataclass
class ConditionalWrites:
    """What is known of conditional writes at one endpoint. Asked once for a bucket, then remembered in PIXEL_HOME.

    Attributes:
        home: PIXEL_HOME.
        assumed: True or False where nothing is to be asked: a setting, or the embedded server.
    """

    home: Path
    assumed: bool | None = None
    _verdicts: dict[str, Verdict] = field(default_factory=dict)

    def verdict(self, bucket: "Bucket") -> Verdict:
        """What the bucket's store does with conditional writes. Raises as `ask` does, where it has to ask."""
        if bucket.name not in self._verdicts:
            if self.assumed is not None:
                self._verdicts[bucket.name] = "honoured" if self.assumed else "ignored"
            else:
                self._verdicts[bucket.name] = self._recall(bucket) or self.remember(bucket, ask(bucket))
        if self._verdicts[bucket.name] != "honoured":
            _warn(bucket)
        return self._verdicts[bucket.name]

    def remember(self, bucket: "Bucket", verdict: Verdict) -> Verdict:
        """Take a verdict, e.g. of `race_creates`, as this machine's knowledge for the next seven days."""
        path = self._path(bucket)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        told = {"where": self._where(bucket), "verdict": verdict, "asked": datetime.now(UTC).isoformat()}
        partial.write_bytes(orjson.dumps(told))
        partial.replace(path)
        self._verdicts[bucket.name] = verdict
        return verdict

    def _recall(self, bucket: "Bucket") -> Verdict | None:
        try:
            told = orjson.loads(self._path(bucket).read_bytes())
            fresh = datetime.now(UTC) - datetime.fromisoformat(told["asked"]) < VERDICT_AGE
            verdict: Verdict = told["verdict"]
        except (OSError, ValueError, KeyError, TypeError):
            # None yet, or no file of ours: asking again costs three requests.
            return None
        return verdict if fresh and verdict in ("honoured", "ignored", "refused") else None

    def _path(self, bucket: "Bucket") -> Path:
        return self.home / "conditional_writes" / f"{_digest(self._where(bucket))}.json"

    @contextmanager
    def alone(self, bucket: "Bucket", key: str) -> Iterator[None]:
        """Hold this machine's lock on a key. Not reentrant: a thread that asks for it twice waits for itself."""
        path = self.home / "locks" / f"{_digest(f'{self._where(bucket)}/{key}')}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file stays: another process may wait on it already. The lock goes with its holder, however that dies.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @staticmethod
    def _where(bucket: "Bucket") -> str:
        return f"{bucket.target.endpoint or bucket.target.region} {bucket.name}"


def _warn(bucket: "Bucket") -> None:
    """Once a process, loudly."""
    if _warned.is_set():
        return
    _warned.set()
    _logger.warning(
        "SINGLE-WRITER MODE: %s has no conditional writes for bucket %s. Writers on this machine wait for each other; two "
        "machines that write at once can overwrite each other's commits without an error. Write from one machine "
        "only. `pixel doctor` shows it; PIXEL_S3_CONDITIONAL_WRITES overrides it.",
        bucket.target.endpoint or f"S3 in {bucket.target.region}",
        bucket.name,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
