"""Shared by the areas: the lake that they measure on, their workers, and measures of a run."""

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
"""Part of the names of generated objects, which are kept between runs: changed code generates new objects."""


@dataclass(frozen=True)
class Bench:
    """Shared by all sections: the options, the benchmarks' bucket, and the workers' environment."""

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
        """The same, with workers that use a server of generated objects instead of the lake."""
        return replace(self, env=self.env | _endpoint(endpoint))


@contextmanager
def prepare(options: Options, *, area: str) -> Iterator[Bench]:
    """Open the bucket `pixel-bench` at the configured endpoint, or on a separate embedded server."""
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
        # Servers other than AWS may not support newer checksums.
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
    """Raise BenchmarkError if the run has another count."""
    if run.count != expected:
        raise BenchmarkError(f"Expected a count of {expected:,}, got {run.count:,}.")


def put_raw(lake: Lake, count: int) -> None:
    """Fill the raw tier with exactly `count` small objects of one conversation each."""
    expected = {
        f"{keys.RAW}/{FOLDERS[number % len(FOLDERS)]}/part {number // 500:03}/sessions_{number:06}.json"
        for number in range(count)
    }
    existing = {item.key for item in lake.data.list(keys.RAW)}
    lake.data.delete(sorted(existing - expected))

    async def put_missing() -> None:
        limit = asyncio.Semaphore(32)

        async def put(key: str) -> None:
            async with limit:
                await obstore.put_async(lake.data.store, key, SMALL_CONVERSATION)

        await asyncio.gather(*(put(key) for key in sorted(expected - existing)))

    asyncio.run(put_missing())
