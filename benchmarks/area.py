"""What the areas share: the lake that they measure on, their workers, and measures of a run."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
import sys
from typing import Any

import obstore
import xxhash

from benchmarks import data
from benchmarks.harness import MB, BenchmarkError, Options, Run, Worker
from pixel_pipeline.lake import embedded, keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings

BUCKET = "pixel-bench"
FOLDERS = (
    "CoT_Reasoning",
    "Edge Cases/crisis",
    "Priority 1/wave 2",
    "Voice/transcripts",
    "Long running therapy",
)
SMALL_CONVERSATION = (
    b'[{"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]}]'
)
MATERIAL = xxhash.xxh3_64_hexdigest(Path(data.__file__).read_bytes())
"""In the names of generated objects, which are kept from run to run: other code, other objects."""


@dataclass(frozen=True)
class Bench:
    """What all sections work with: the options, a bucket of their own, and how workers find it."""

    area: str
    options: Options
    lake: Lake
    home: Path
    env: dict[str, str]

    def ours(self, job: str, **arguments: Any) -> Worker:
        """A job of `<area>_ours.py`."""
        return Worker(Path(sys.executable), f"benchmarks.{self.area}_ours", job, arguments, self.env)

    def peer(self, job: str, **arguments: Any) -> Worker:
        """A job of `<area>_peers.py`."""
        return Worker(self.options.peers_python, f"benchmarks.{self.area}_peers", job, arguments, self.env)

    def elsewhere(self, endpoint: str) -> "Bench":
        """The same, with workers that find a server of generated objects in place of the lake."""
        return replace(self, env=self.env | _endpoint(endpoint))


@contextmanager
def prepare(options: Options, *, area: str) -> Iterator[Bench]:
    """The bucket `pixel-bench`: on an embedded server of its own, or, where an endpoint is configured, there."""
    settings = get_settings()
    settings = settings.model_copy(update={"bucket": BUCKET, "home": settings.home / "bench"})
    lake = Lake.open(settings)
    lake.data.check()
    try:
        yield Bench(
            area=area, options=options, lake=lake, home=settings.home, env=_environment(lake, settings)
        )
    finally:
        embedded.stop(settings.home)


def _environment(lake: Lake, settings: Settings) -> dict[str, str]:
    target = lake.target
    env = {
        "PIXEL_HOME": str(settings.home),
        "PIXEL_BUCKET": BUCKET,
        "AWS_ACCESS_KEY_ID": target.access_key,
        "AWS_SECRET_ACCESS_KEY": target.secret_key.get_secret_value(),
        "AWS_REGION": target.region,
        "AWS_DEFAULT_REGION": target.region,
        # Servers other than AWS may not know newer checksums.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    if target.ca_bundle is not None:
        env |= {"AWS_CA_BUNDLE": str(target.ca_bundle), "SSL_CERT_FILE": str(target.ca_bundle)}
    if target.session_token is not None:
        env["AWS_SESSION_TOKEN"] = target.session_token.get_secret_value()
    return env | _endpoint(target.endpoint or f"https://s3.{target.region}.amazonaws.com")


def _endpoint(url: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": url, "PIXEL_S3_ENDPOINT": url}


def wall(run: Run) -> float:
    return run.wall


def cpu(run: Run) -> float:
    return run.cpu


def count_per_cpu_second(run: Run) -> float:
    return run.count / run.cpu


def memory(run: Run) -> float:
    """Megabytes."""
    return run.peak_rss / MB


def check_count(run: Run, expected: int) -> None:
    """Raises BenchmarkError where something else was done than asked."""
    if run.count != expected:
        raise BenchmarkError(f"Expected a count of {expected:,}; it was {run.count:,}.")


def put_raw(lake: Lake, count: int) -> None:
    """Make the raw tier so many small objects, each of one conversation."""
    wanted = {
        f"{keys.RAW}/{FOLDERS[number % len(FOLDERS)]}/part {number // 500:03}/sessions_{number:06}.json"
        for number in range(count)
    }
    there = {item.key for item in lake.data.list(keys.RAW)}
    lake.data.delete(sorted(there - wanted))

    async def put_missing() -> None:
        at_once = asyncio.Semaphore(32)

        async def put(key: str) -> None:
            async with at_once:
                await obstore.put_async(lake.data.store, key, SMALL_CONVERSATION)

        await asyncio.gather(*(put(key) for key in sorted(wanted - there)))

    asyncio.run(put_missing())
