"""The lake against peers: listing, streaming, tables. `make bench AREA=lake`; see docs/benchmarks.md."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import obstore
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from benchmarks import data, listing_server, object_server
from benchmarks.area import (
    BUCKET,
    MATERIAL,
    Bench,
    check_count,
    count_per_cpu_second,
    cpu,
    memory,
    prepare,
    put_raw,
    wall,
)
from benchmarks.harness import (
    MB,
    BenchmarkError,
    Figure,
    Run,
    against_limit,
    against_peer,
    alternate,
    run_area,
)
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table

LISTED_OBJECTS = 20_000
MANY_OBJECTS = 1_000_000
MANY_SECONDS = 20.0
MANY_MEMORY = 1_000 * MB
LINES_BYTES = 400 * MB
LARGE_BYTES = (100 * MB, 10_000 * MB)
LARGE_LIMIT = 300 * MB
ELEMENTS_BYTES = 200 * MB
TABLE_BYTES = 1_000 * MB


def listing(bench: Bench) -> Iterator[Figure]:
    """List the raw tier of a bucket of today's size."""
    count = bench.options.scaled(LISTED_OBJECTS)
    put_raw(bench.lake, count)
    pairs = alternate(
        bench.ours("list_inventory").run,
        bench.peer("list_boto3", bucket=BUCKET, prefix=f"{keys.RAW}/").run,
        repeats=bench.options.repeats,
    )
    name = f"list {count:,} objects"
    yield against_peer(f"{name}, time", pairs, unit="s", measure=wall, library="boto3", goal=4)
    yield against_peer(f"{name}, CPU", pairs, unit="CPU-s", measure=cpu, library="boto3", goal=10)


def million(bench: Bench) -> Iterator[Figure]:
    """A bucket of a million objects with 1 % of them changed. The listing is generated; the tables are real."""
    count = bench.options.scaled(MANY_OBJECTS)
    changed = max(1, count // 100)
    name = f"{count:,} objects, {changed:,} changed"
    with listing_server.spawned(count) as before, listing_server.spawned(count, changed=changed) as after:
        for tables in (keys.INVENTORY, keys.INVENTORY_CHANGES):
            bench.lake.data.delete([item.key for item in bench.lake.data.list(tables)])
        # The tables are empty, so the first commit contains all objects.
        check_count(bench.ours("refresh", listed_at=before).run(), count)
        runs = [
            bench.ours("refresh", listed_at=(after, before)[number % 2]).run()
            for number in range(bench.options.repeats)
        ]
        for run in runs:
            check_count(run, changed)
        yield from _within_limits(f"refresh {name}", runs)
        # The sensor is one commit behind, as after a usual refresh, then behind by all commits.
        for commits, changes in ((1, changed), (len(runs) + 1, count + changed * len(runs))):
            tick = bench.ours("tick", commits=commits).run()
            if (tick.count == 1) is not (commits == 1):
                raise BenchmarkError(f"The sensor requested {tick.count} runs after {commits} commits.")
            yield from _within_limits(f"sensor tick, {changes:,} changes", [tick])
        # The peer would need minutes for all objects; one folder shows its speed.
        ours = bench.elsewhere(before).ours("list_inventory").run()
        peer = (
            bench.elsewhere(before)
            .peer("list_boto3", bucket=BUCKET, prefix="gdrive/raw/crisis_support/")
            .run()
        )
        yield against_peer(
            f"list {count:,} objects",
            [(ours, peer)],
            unit="objects/s",
            measure=lambda run: run.count / run.wall,
            library="boto3",
        )


def _within_limits(name: str, runs: Sequence[Run]) -> Iterator[Figure]:
    yield against_limit(f"{name}: time", runs, unit="s", measure=wall, limit=MANY_SECONDS)
    yield against_limit(f"{name}: memory", runs, unit="MB", measure=memory, limit=MANY_MEMORY / MB)


def json_lines(bench: Bench) -> Iterator[Figure]:
    """Stream the records of a JSON Lines object."""
    file = data.json_lines(bench.options.scaled(LINES_BYTES))
    key = _put_once(bench.lake, f"bench/{MATERIAL}-{file.size}.jsonl", file)
    for job, library, goal in (
        ("lines_boto3", "boto3 + json", 3.0),
        ("lines_s3fs", "s3fs + orjson", 1.5),
        ("lines_s3fs_buffered", "s3fs in a buffer + orjson", None),
        ("lines_obstore", "obstore + orjson", 0.8),
    ):
        pairs = alternate(
            bench.ours("lines", uri=bench.lake.data.uri(key)).run,
            bench.peer(job, bucket=BUCKET, key=key).run,
            repeats=bench.options.repeats,
        )
        yield against_peer(
            f"stream JSONL, {file.size / MB:,.0f} MB",
            pairs,
            unit="records/CPU-s",
            measure=count_per_cpu_second,
            library=library,
            goal=goal,
        )


def elements(bench: Bench) -> Iterator[Figure]:
    """Stream the elements of a large JSON array."""
    file = data.json_array(bench.options.scaled(ELEMENTS_BYTES))
    key = _put_once(bench.lake, f"bench/{MATERIAL}-{file.size}.json", file)
    pairs = alternate(
        bench.ours("elements", uri=bench.lake.data.uri(key)).run,
        bench.peer("elements_ijson", bucket=BUCKET, key=key).run,
        repeats=bench.options.repeats,
    )
    yield against_peer(
        f"stream a JSON array, {file.size / MB:,.0f} MB",
        pairs,
        unit="records/CPU-s",
        measure=count_per_cpu_second,
        library="ijson + boto3",
    )


def _put_once(lake: Lake, key: str, file: data.Repeated) -> str:
    if not lake.data.exists(key):
        obstore.put(lake.data.store, key, file.chunks())
    return key


def large(bench: Bench) -> Iterator[Figure]:
    """Memory to stream objects of growing size, which are generated on the fly."""
    sizes = [bench.options.scaled(size) for size in LARGE_BYTES]
    objects = {
        f"{size}{suffix}": (maker, size)
        for size in sizes
        for suffix, maker in ((".jsonl", "json_lines"), (".json", "json_array"))
    }
    with object_server.serving(objects) as server:
        generated = bench.elsewhere(f"http://127.0.0.1:{server['port']}")
        for key, item in server["objects"].items():
            job = "lines" if key.endswith(".jsonl") else "elements"
            run = generated.ours(job, uri=f"s3://{BUCKET}/{key}").run()
            check_count(run, item["count"])
            name = "JSONL" if job == "lines" else "a JSON array"
            yield against_limit(
                f"memory to stream {name}, {item['size'] / MB:,.0f} MB",
                [run],
                unit="MB",
                measure=memory,
                limit=LARGE_LIMIT / MB,
            )


def table(bench: Bench) -> Iterator[Figure]:
    """Load a canonical table with the IO manager, against plain GETs of its files plus reading them from disk."""
    size = bench.options.scaled(TABLE_BYTES)
    stored = _table_once(bench.lake, size)
    files = [uri.removeprefix(bench.lake.data.uri()) for uri in stored.open().file_uris()]
    copies = [_copy(bench, key) for key in files]
    get, read = bench.peer("get_files", bucket=BUCKET, keys=files), bench.peer("read_parquet", paths=copies)
    pairs = alternate(
        bench.ours("load_table", table=stored.key).run,
        lambda: _together(get.run(), read.run()),
        repeats=bench.options.repeats,
    )
    megabytes = sum(Path(copy).stat().st_size for copy in copies) / MB
    yield against_peer(
        f"load a table, {megabytes:,.0f} MB of Parquet",
        pairs,
        unit="MB/s",
        measure=lambda run: megabytes / run.wall,
        library="pyarrow + obstore",
        goal=0.9,
    )


def _together(get: Run, read: Run) -> Run:
    versions = {**read.versions, **get.versions}
    return replace(read, wall=get.wall + read.wall, cpu=get.cpu + read.cpu, versions=versions)


def _copy(bench: Bench, key: str) -> str:
    path = bench.home / "copies" / key
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        bench.lake.data.download(key, path)
    return str(path)


def _table_once(lake: Lake, size: int) -> Table:
    """Write a table of conversations with about `size` bytes of Parquet, once."""
    stored = Table(lake, f"bench/table-{MATERIAL}-{size}")
    if stored.exists():
        return stored
    batch = _conversations()
    probe = pa.BufferOutputStream()
    pq.write_table(pa.table(batch), probe, compression="zstd", use_dictionary=False)
    rows = max(1, round(size * batch.num_rows / probe.tell()))

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, batch.num_rows):
            part = batch.slice(0, rows - start)
            for name in ("id", "content_hash"):
                digests = [
                    xxhash.xxh3_128_hexdigest(f"{name}{start + row}".encode()) for row in range(part.num_rows)
                ]
                part = part.set_column(
                    part.schema.get_field_index(name), CONVERSATION_SCHEMA.field(name), pa.array(digests)
                )
            yield part

    stored.overwrite(pa.RecordBatchReader.from_batches(CONVERSATION_SCHEMA, batches()))
    return stored


def _conversations() -> pa.RecordBatch:
    source = {
        "bucket": BUCKET,
        "key": "bench/records.jsonl",
        "etag": "0" * 32,
        "position_kind": "byte",
        "format": "chatml",
    }
    return pa.RecordBatch.from_pylist(
        [
            {
                "id": "",
                "messages": record["messages"],
                "category": "priority",
                "family": "bench",
                "dataset": "records",
                "source": {**source, "position": number * 2_500},
                "content_hash": "",
                "tags": [],
                "metadata": orjson.dumps({"quality": record["quality"]}).decode(),
            }
            for number, record in enumerate(data.records())
        ],
        schema=CONVERSATION_SCHEMA,
    )


if __name__ == "__main__":
    run_area(
        "The lake against peers.",
        partial(prepare, area="lake"),
        {
            "listing": listing,
            "million": million,
            "json_lines": json_lines,
            "large": large,
            "elements": elements,
            "table": table,
        },
    )
