"""Conditional writes: whether a store refuses to create an object that exists.

Commits to tables and create-only puts rely on `If-None-Match: *`. Some S3-compatible stores ignore it and others refuse it;
there the lake can be read, but not written by these operations.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import hashlib
from pathlib import Path
import threading
from typing import Literal
import uuid

import orjson

from pixel_pipeline.files import atomic_file
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import (
    ConditionalWritesError,
    LakeAccessError,
    LakeUnsupportedError,
    ObjectExistsError,
)

# Servers are upgraded, so a verdict expires.
VERDICT_AGE = timedelta(days=7)

Verdict = Literal["honoured", "ignored", "refused"]


def race_creates(bucket: Bucket, *, key: str, writers: int) -> int:
    """Create one key from several threads at the same moment, and delete it.

    Returns:
        How many succeeded: 1 on a sound store, 0 on one that refuses conditional writes.
    """
    barrier = threading.Barrier(writers)

    def create(number: int) -> bool:
        barrier.wait()
        try:
            bucket.create(key, b"%d" % number)
        except (ObjectExistsError, LakeUnsupportedError):
            return False
        return True

    with ThreadPoolExecutor(writers) as pool:
        winners = sum(pool.map(create, range(writers)))
    # Without the right to delete, a probe object of a few bytes stays.
    with suppress(LakeAccessError):
        bucket.delete([key])
    return winners


def verdict_of(winners: int) -> Verdict:
    """Judge a store by the result of `race_creates`."""
    return "honoured" if winners == 1 else "ignored" if winners else "refused"


@dataclass
class ConditionalWrites:
    """Whether stores honour conditional writes. Each bucket is asked once; the verdict is kept in PIXEL_HOME for seven days.

    Attributes:
        home: PIXEL_HOME.
        setting: "on" and "off" replace the question by "honoured" and "refused".
    """

    home: Path
    setting: Literal["auto", "on", "off"] = "auto"
    _verdicts: dict[str, Verdict] = field(default_factory=dict)

    def require(self, bucket: Bucket) -> None:
        """Raise ConditionalWritesError unless the bucket's store honours conditional writes."""
        if self.setting == "on":
            return
        if self.setting == "off":
            raise ConditionalWritesError(
                f"Bucket {bucket.name} ({bucket.target.where}) is read-only: PIXEL_S3_CONDITIONAL_WRITES=off.",
                hint="Unset it to write tables, checkpoints and promotions.",
            )
        if bucket.name not in self._verdicts:
            self._verdicts[bucket.name] = self._recall(bucket) or self._ask(bucket)
        verdict = self._verdicts[bucket.name]
        if verdict != "honoured":
            raise ConditionalWritesError(
                f"Bucket {bucket.name} ({bucket.target.where}) cannot be written safely: the store has {verdict} If-None-Match, so "
                "concurrent commits could overwrite each other.",
                hint="Use a store with conditional writes. After an upgrade of this one, `pixel doctor` tests it again.",
            )

    def _ask(self, bucket: Bucket) -> Verdict:
        winners = race_creates(bucket, key=f"{keys.PROBES}/{uuid.uuid4().hex}", writers=2)
        return self.remember(bucket, verdict_of(winners))

    def remember(self, bucket: Bucket, verdict: Verdict) -> Verdict:
        """Keep a verdict for seven days."""
        path = self._path(bucket)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(orjson.dumps({"verdict": verdict, "asked": datetime.now(UTC).isoformat()}))
        self._verdicts[bucket.name] = verdict
        return verdict

    def _recall(self, bucket: Bucket) -> Verdict | None:
        try:
            content = orjson.loads(self._path(bucket).read_bytes())
            fresh = datetime.now(UTC) - datetime.fromisoformat(content["asked"]) < VERDICT_AGE
            verdict: Verdict = content["verdict"]
        except (OSError, ValueError, KeyError, TypeError):
            # Missing or damaged: asking again costs three requests.
            return None
        return verdict if fresh and verdict in ("honoured", "ignored", "refused") else None

    def _path(self, bucket: Bucket) -> Path:
        place = f"{bucket.target.endpoint or bucket.target.region} {bucket.name}"
        return self.home / "conditional_writes" / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.json"
