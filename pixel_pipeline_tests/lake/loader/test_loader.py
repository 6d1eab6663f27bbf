"""The public loader: the same records from every source and compression.

Over 300 lines: all tests share the same datasets and loaders.
"""

import bz2
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
import gzip
import json
import logging
import multiprocessing
import os
from pathlib import Path
import re
import subprocess
import sys
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import pixel_pipeline
from pixel_pipeline import S3DatasetLoader, get_s3_dataset_path, load_dataset_from_s3
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.loader import content
from pixel_pipeline.lake.loader.cache import Cache
from pixel_pipeline.lake.loader.content import DatasetFormatError, DatasetTooLargeError
from pixel_pipeline.lake.loader.forking import ForkedProcessError
from pixel_pipeline.lake.loader.json_elements import JsonStructureError
from pixel_pipeline.lake.loader.json_records import JsonRecordError
from pixel_pipeline.lake.loader.resolution import DatasetNameError, DatasetNotFoundError
from pixel_pipeline.lake.s3 import stream
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import ObjectChangedError, ObjectCorruptError
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import Settings
from pixel_pipeline_tests.faults import Fault, FaultProxy
from pixel_pipeline_tests.lake.loader.test_compression import zstd

ROWS: list[dict[str, Any]] = [{"id": number, "text": f"größe {number}"} for number in range(2000)]
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
ARRAY = json.dumps(ROWS, indent=1).encode()
CHUNK = 20_000


def parquet(rows: list[dict[str, Any]], *, row_group_size: int = 500) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=row_group_size)
    return bytes(sink.getvalue())


@pytest.fixture
def loader(lake: Lake, tmp_path: Path) -> S3DatasetLoader:
    return S3DatasetLoader(lake=lake, cache=Cache(tmp_path / "cache", max_bytes=10**9))


@pytest.fixture
def proxy(lake: Lake, settings: Settings) -> Iterator[FaultProxy]:
    server = embedded.status(settings.home)
    assert server is not None
    with FaultProxy(server.ports["s3.port"]) as running:
        yield running


@pytest.fixture
def faulty(lake: Lake, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3DatasetLoader:
    """A loader that reads through the proxy, in small chunks."""
    monkeypatch.setattr(stream, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(content, "ObjectStream", partial(stream.ObjectStream, chunk_bytes=CHUNK))
    target = replace(lake.data.target, endpoint=proxy.endpoint)
    seen = replace(lake, data=Bucket(name=lake.data.name, target=target), target=target)
    return S3DatasetLoader(lake=seen, cache=Cache(tmp_path / "faulty", max_bytes=10**9))


def test_the_scripts_of_the_team(lake: Lake) -> None:
    lake.data.put("gdrive/processed/cot_reasoning/dataset.json", ARRAY)
    lake.data.put("gdrive/raw/sub/lines.jsonl", LINES)
    assert load_dataset_from_s3("dataset.json", category="cot_reasoning") == ROWS
    assert load_dataset_from_s3("dataset.json", "cot_reasoning", cache_local=True) == ROWS
    assert load_dataset_from_s3("lines.jsonl") == ROWS
    assert (
        get_s3_dataset_path("dataset.json", category="cot_reasoning")
        == f"s3://{lake.data.name}/gdrive/processed/cot_reasoning/dataset.json"
    )
    loader = S3DatasetLoader()
    assert loader.list_datasets(prefix="gdrive/processed/") == ["gdrive/processed/cot_reasoning/dataset.json"]
    assert loader.object_exists("dataset.json", category="cot_reasoning")
    assert not loader.object_exists("no.json", category="cot_reasoning")


def test_importing_the_package_is_light() -> None:
    code = "import sys, pixel_pipeline; print([m for m in ('pyarrow', 'obstore', 'numpy', 'orjson') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert {"S3DatasetLoader", "load_dataset_from_s3", "get_s3_dataset_path"} <= {*dir(pixel_pipeline)}
    with pytest.raises(AttributeError):
        pixel_pipeline.nothing  # noqa: B018


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "zst": zstd,
    "bz2": bz2.compress,
}


@pytest.mark.parametrize("packed", PACKERS)
def test_the_same_results_from_everywhere(loader: S3DatasetLoader, tmp_path: Path, packed: str) -> None:
    suffix = "" if packed == "plain" else f".{packed}"
    files = {f"d.json{suffix}": ARRAY, f"d.jsonl{suffix}": LINES}
    offline = S3DatasetLoader(lake=loader.lake, cache=loader.cache, offline=True)
    for name, text in files.items():
        key, data = f"gdrive/processed/cot/{name}", PACKERS[packed](text)
        loader.lake.data.put(key, data)
        (tmp_path / name).write_bytes(data)
        for use, at, options in (
            (loader, name, {}),
            (loader, name, {"category": "cot"}),
            (loader, key, {}),
            (loader, loader.lake.data.uri(key), {}),
            (loader, tmp_path / name, {}),
            (loader, str(tmp_path / name), {"cache_local": True}),
            (loader, name, {"cache_local": True}),
            (loader, name, {"cache_local": True}),
            (loader, name, {"cache_local": tmp_path / "elsewhere"}),
            (offline, name, {}),
            (offline, name, {"category": "cot", "cache_local": True}),
        ):
            assert use.load_dataset(at, **options) == ROWS
            assert use.load_bytes(at, **options) == text
            assert use.load_text(at, **options) == text.decode()
            if name.startswith("d.jsonl"):
                assert [*use.stream_jsonl(at, **options)] == ROWS
            else:
                assert use.load_json(at, **options) == ROWS
                assert [*use.stream_json(at, **options)] == ROWS


def test_compression_is_recognised_by_content_not_by_name(loader: S3DatasetLoader) -> None:
    loader.lake.data.put("gdrive/raw/packed.json", gzip.compress(b'{"a": 1}'))
    loader.lake.data.put("gdrive/raw/plain.json.gz", b'{"a": 1}')
    assert loader.load_json("packed.json") == loader.load_json("plain.json.gz") == {"a": 1}


def test_empty_objects(loader: S3DatasetLoader) -> None:
    loader.lake.data.put("gdrive/raw/empty.jsonl", b"")
    assert loader.load_bytes("empty.jsonl") == loader.load_bytes("empty.jsonl", cache_local=True) == b""
    assert loader.load_dataset("empty.jsonl") == []
    with pytest.raises(DatasetFormatError):
        loader.load_json("empty.jsonl")
    with pytest.raises(JsonStructureError):
        next(loader.stream_json("empty.jsonl"))
    with pytest.raises(DatasetFormatError):
        next(loader.stream_parquet("empty.jsonl"))


def test_canonical_tables_and_parquet(loader: S3DatasetLoader, tmp_path: Path) -> None:
    Table(loader.lake, "gdrive/processed/cot/sessions").overwrite(pa.Table.from_pylist(ROWS))
    loader.lake.data.put("gdrive/raw/rows.parquet", parquet(ROWS))
    (tmp_path / "rows.parquet").write_bytes(parquet(ROWS))
    for name, options in (
        ("sessions", {"category": "cot"}),
        ("sessions", {"cache_local": True}),
        ("rows.parquet", {}),
        ("rows.parquet", {"cache_local": True}),
        (tmp_path / "rows.parquet", {}),
    ):
        assert loader.load_dataset(name, **options) == ROWS
        batches = [
            *loader.stream_parquet(
                name, columns=["id"], filter=pc.field("id") >= 1990, batch_size=3, **options
            )
        ]
        assert [row for batch in batches for row in batch.to_pylist()] == [
            {"id": n} for n in range(1990, 2000)
        ]
        assert max(batch.num_rows for batch in batches) <= 3
    with pytest.raises(DatasetFormatError, match="is a table"):
        loader.load_json("sessions")


def test_only_wanted_columns_and_row_groups_are_fetched(faulty: S3DatasetLoader, proxy: FaultProxy) -> None:
    rows = [{"id": number, "noise": os.urandom(3000).hex()} for number in range(2000)]
    faulty.lake.data.put("gdrive/raw/rows.parquet", parquet(rows, row_group_size=100))
    fetched = 0

    def count(head: bytes, body: bytes) -> bytes:
        nonlocal fetched
        if match := re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", head):
            fetched += int(match[2]) - int(match[1]) + 1
        return head

    proxy.rewrite = count
    batches = [*faulty.stream_parquet("rows.parquet", columns=["id"])]
    assert sum(batch.num_rows for batch in batches) == 2000
    found = [*faulty.stream_parquet("rows.parquet", filter=pc.field("id") == 150)]
    assert sum(batch.num_rows for batch in found) == 1
    assert fetched < 2_000_000  # of 6


def test_damaged_parquet_raises_an_error(loader: S3DatasetLoader) -> None:
    loader.lake.data.put("gdrive/raw/cut.parquet", parquet(ROWS)[:-100])
    loader.lake.data.put("gdrive/raw/rows.parquet", parquet(ROWS))
    with pytest.raises(DatasetFormatError, match=r"cut\.parquet cannot be read as Parquet"):
        loader.load_dataset("cut.parquet")
    with pytest.raises(DatasetFormatError):
        next(loader.stream_parquet("rows.parquet", columns=["nothing"]))
    with pytest.raises(DatasetFormatError):
        next(loader.stream_parquet("rows.parquet", filter=pc.field("nothing") == 1))


def test_a_parquet_object_replaced_during_the_read_raises_an_error(loader: S3DatasetLoader) -> None:
    rows = [{"noise": os.urandom(5000).hex()} for _ in range(2000)]
    loader.lake.data.put("gdrive/raw/rows.parquet", parquet(rows, row_group_size=50))
    batches = loader.stream_parquet("rows.parquet", batch_size=50)
    next(batches)
    loader.lake.data.put("gdrive/raw/rows.parquet", parquet(rows[::-1], row_group_size=50))
    with pytest.raises(ObjectChangedError):
        deque(batches)


def test_foreign_buckets_and_uris(loader: S3DatasetLoader) -> None:
    loader.lake.checkpoints.put("run/metrics.json", b"[1]")
    assert loader.load_json(loader.lake.checkpoints.uri("run/metrics.json")) == [1]
    for wrong in ("s3://", "s3://bucket", "s3:///key", "gs://bucket/key", "https://host/key", "s3://b/../x"):
        with pytest.raises(DatasetNameError):
            loader.locate(wrong)
    with pytest.raises(DatasetNotFoundError, match=loader.lake.data.uri("no/such.json")):
        loader.locate(loader.lake.data.uri("no/such.json"))


def test_a_table_is_listed_as_one_dataset(loader: S3DatasetLoader) -> None:
    Table(loader.lake, "gdrive/processed/cot/sessions").overwrite(pa.table({"a": [1]}))
    for key in ("gdrive/raw/a/b.json", "acquired/c.json", "tokens/d.json"):
        loader.lake.data.put(key, b"1")
    listed = loader.list_datasets()
    assert listed == ["acquired/c.json", "gdrive/processed/cot/sessions", "gdrive/raw/a/b.json"]
    assert all(loader.object_exists(key) for key in listed)
    assert loader.list_datasets("gdrive/raw/a") == ["gdrive/raw/a/b.json"]
    assert loader.list_datasets("nothing/here/") == []


def test_the_error_of_invalid_json_does_not_quote_it(loader: S3DatasetLoader) -> None:
    loader.lake.data.put("gdrive/raw/bad.json", b'{"a": planted words}')
    with pytest.raises(DatasetFormatError, match=r"bad\.json is no JSON document: not JSON") as caught:
        loader.load_json("bad.json")
    assert "planted" not in str(caught.value)
    loader.lake.data.put("gdrive/raw/bad.txt", b"planted \xff")
    with pytest.raises(DatasetFormatError, match="not UTF-8 at byte 8") as caught:
        loader.load_text("bad.txt")
    assert "planted" not in str(caught.value)
    loader.lake.data.put("gdrive/raw/marked.json", b"\xef\xbb\xbf[NaN]")
    assert str(loader.load_json("marked.json")) == "[nan]"


def test_content_over_the_limit_is_refused(loader: S3DatasetLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_LOADED_BYTES", 1_000_000)
    loader.lake.data.put("gdrive/raw/bomb.json", gzip.compress(bytes(50_000_000)))
    with pytest.raises(DatasetTooLargeError, match="1,000,000 bytes"):
        loader.load_bytes("bomb.json")


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("where", ["s3", "cache", "file"])
def test_streaming_resumes_at_next_offset(
    loader: S3DatasetLoader, tmp_path: Path, packed: str, where: str
) -> None:
    data = PACKERS[packed](LINES)
    loader.lake.data.put("gdrive/raw/d.jsonl", data)
    (tmp_path / "d.jsonl").write_bytes(data)
    name: Any = tmp_path / "d.jsonl" if where == "file" else "d.jsonl"
    with loader.stream_jsonl(name, cache_local=where == "cache") as first:
        head = [next(first) for _ in range(1234)]
    rest = loader.stream_jsonl(name, cache_local=where == "cache", start_offset=first.next_offset)
    assert [*head, *rest] == ROWS
    assert [*loader.stream_jsonl(name, start_offset=len(LINES))] == []


def test_bad_lines_are_raised_or_collected(loader: S3DatasetLoader) -> None:
    loader.lake.data.put("gdrive/raw/bad.jsonl", b'{"a": 1}\n{"a": planted}\n{"a": 2}')
    uri = re.escape(loader.lake.data.uri("gdrive/raw/bad.jsonl"))
    with pytest.raises(JsonRecordError, match=rf"{uri}: line 2, 14 bytes from byte 9"):
        [*loader.stream_jsonl("bad.jsonl")]
    lines = loader.stream_jsonl("bad.jsonl", on_error="collect")
    assert [*lines] == [{"a": 1}, {"a": 2}]
    assert [(bad.number, bad.offset) for bad in lines.errors] == [(2, 9)]


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_streams_survive_broken_connections(faulty: S3DatasetLoader, proxy: FaultProxy, kind: str) -> None:
    faulty.lake.data.put("gdrive/raw/d.jsonl", LINES)
    faulty.lake.data.put("gdrive/raw/d.json", ARRAY)
    for after in (0, 333, 9_999):
        proxy.faults = [Fault(kind, after=after, on=r"^GET .*/d\.jsonl?$")] * 4  # type: ignore[arg-type]
        assert [*faulty.stream_jsonl("gdrive/raw/d.jsonl")] == ROWS
        proxy.faults = [Fault(kind, after=after, on=r"^GET .*/d\.jsonl?$")] * 4  # type: ignore[arg-type]
        assert [*faulty.stream_json("gdrive/raw/d.json")] == ROWS


def test_one_corrupt_byte_causes_a_second_read(faulty: S3DatasetLoader, proxy: FaultProxy) -> None:
    faulty.lake.data.put("gdrive/raw/d.json", ARRAY)
    for options in ({}, {"cache_local": True}):
        proxy.faults = [Fault("corrupt", after=5000, on=r"^GET .*/d\.json$")]
        assert faulty.load_json("gdrive/raw/d.json", **options) == ROWS
        assert proxy.faults == []


def test_corrupt_bytes_are_never_returned_or_cached(faulty: S3DatasetLoader, proxy: FaultProxy) -> None:
    faulty.lake.data.put("gdrive/raw/d.json", ARRAY)
    proxy.always = Fault("corrupt", after=5000, on=r"^GET .*/d\.json$")
    for options in ({}, {"cache_local": True}):
        with pytest.raises(ObjectCorruptError):
            faulty.load_json("gdrive/raw/d.json", **options)
    with pytest.raises((ObjectCorruptError, JsonRecordError)):
        [*faulty.stream_json("gdrive/raw/d.json")]
    proxy.always = None
    assert faulty.load_json("gdrive/raw/d.json", cache_local=True) == ROWS


def test_an_object_replaced_during_a_stream_raises_an_error(faulty: S3DatasetLoader) -> None:
    faulty.lake.data.put("gdrive/raw/d.jsonl", LINES * 5)
    lines = faulty.stream_jsonl("d.jsonl")
    next(lines)
    faulty.lake.data.put("gdrive/raw/d.jsonl", LINES * 5 + b"{}")
    with pytest.raises(ObjectChangedError):
        deque(lines)


def test_a_stale_copy_is_never_served(loader: S3DatasetLoader) -> None:
    offline = S3DatasetLoader(lake=loader.lake, cache=loader.cache, offline=True)
    for version in (b"[1]", b"[2]", b"[1]", b"[3]"):
        loader.lake.data.put("gdrive/raw/d.json", version)
        assert loader.load_bytes("d.json", cache_local=True) == version
    assert offline.load_bytes("d.json") == b"[3]"
    loader.lake.data.delete(["gdrive/raw/d.json"])
    with pytest.raises(DatasetNotFoundError):
        loader.load_bytes("d.json", cache_local=True)
    assert offline.load_bytes("d.json") == b"[3]"


def test_offline_contacts_no_server(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIXEL_OFFLINE", "1")
    monkeypatch.setenv("PIXEL_HOME", str(tmp_path))
    loader = S3DatasetLoader()
    with pytest.raises(DatasetNotFoundError, match="no local copy of a dataset"):
        loader.load_json("d.json")
    with loader.cache.open(settings.bucket, "gdrive/raw/d.json", etag="e", fetch=lambda: [b"[1]"]):
        assert loader.load_json("d.json") == [1]
    with pytest.raises(DatasetNotFoundError, match=r"raw/d\.json"):
        loader.load_json("dd.json")


def test_a_full_disk_prevents_the_copy_but_not_the_load(
    loader: S3DatasetLoader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    loader.lake.data.put("gdrive/raw/d.jsonl", LINES)
    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.WARNING, logger="pixel_pipeline"):
        assert [*loader.stream_jsonl("d.jsonl", cache_local=True)] == ROWS
        loader.cache.max_bytes = 10
        assert loader.load_dataset("d.jsonl", cache_local=True) == ROWS
    assert ["has no room" in record.getMessage() for record in caplog.records] == [True, False]
    assert "larger than the cache may be" in caplog.records[1].getMessage()


def read_in_child(loader: S3DatasetLoader, results: Any) -> None:
    try:
        results.put(loader.load_json("d.json"))
    except ForkedProcessError as error:
        results.put(error.message)


def test_spawned_processes_read_and_forked_ones_get_an_error(loader: S3DatasetLoader) -> None:
    loader.lake.data.put("gdrive/raw/d.json", b"[1]")
    assert loader.load_json("d.json") == [1]
    for method, expected in (("spawn", [1]), ("fork", "S3 was read before this process was forked")):
        context: Any = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        child = context.Process(target=read_in_child, args=(loader, results), daemon=True)
        child.start()
        found = results.get()
        child.join()
        assert (found if method == "spawn" else found[: len(expected)]) == expected
