"""The peers' side of `lake.py`, as their documentation shows it. Runs in `.venv-peers`; imports only the harness from this project."""

from collections.abc import Callable, Iterable
import io
import json
import os
from typing import Any

from benchmarks.harness import serve

LIBRARIES = ("boto3", "ijson", "obstore", "orjson", "pyarrow", "s3fs")
Work = Callable[[], int]


def _boto3() -> Any:
    import boto3

    # Endpoint, keys and region come from the AWS_* variables.
    return boto3.client("s3")


def _obstore(bucket: str) -> Any:
    from obstore.store import S3Store

    return S3Store(
        bucket,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True, "timeout": "600s"},
    )


def list_boto3(bucket: str, prefix: str) -> Work:
    client = _boto3()

    def work() -> int:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return len([item for page in pages for item in page.get("Contents", [])])

    return work


def _parse(lines: Iterable[Any], loads: Callable[[Any], Any]) -> int:
    count = 0
    for line in lines:
        loads(line)
        count += 1
    return count


def lines_boto3(bucket: str, key: str) -> Work:
    client = _boto3()
    return lambda: _parse(client.get_object(Bucket=bucket, Key=key)["Body"].iter_lines(), json.loads)


def lines_s3fs(bucket: str, key: str) -> Work:
    """Lines of text. The line iterator for bytes copies a block of 50 MB per line and would take half an hour."""
    import orjson
    import s3fs

    files = s3fs.S3FileSystem()

    def work() -> int:
        with files.open(f"{bucket}/{key}", "r", encoding="utf-8") as lines:
            return _parse(lines, orjson.loads)

    return work


def lines_s3fs_buffered(bucket: str, key: str) -> Work:
    """Lines of bytes through Python's own buffer, the fastest way known to us to read lines with s3fs."""
    import orjson
    import s3fs

    files = s3fs.S3FileSystem()

    def work() -> int:
        with io.BufferedReader(files.open(f"{bucket}/{key}", "rb"), 8 * 1024**2) as lines:
            return _parse(lines, orjson.loads)

    return work


def lines_obstore(bucket: str, key: str) -> Work:
    import obstore
    import orjson

    store = _obstore(bucket)

    def work() -> int:
        count, rest = 0, b""
        for chunk in obstore.get(store, key).stream():
            lines = (rest + bytes(chunk)).split(b"\n")
            rest = lines.pop()
            count += _parse(lines, orjson.loads)
        return count

    return work


def elements_ijson(bucket: str, key: str) -> Work:
    import ijson

    client, parser = _boto3(), ijson.get_backend("yajl2_c")

    def work() -> int:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        return sum(1 for _ in parser.items(body, "item", use_float=True))

    return work


def get_files(bucket: str, keys: list[str]) -> Work:
    """Get whole objects one after the other. Counts bytes."""
    import obstore

    store = _obstore(bucket)
    return lambda: sum(len(obstore.get(store, key).bytes()) for key in keys)


def read_parquet(paths: list[str]) -> Work:
    """Read local files into one table. Counts rows."""
    import pyarrow.parquet as pq

    return lambda: pq.read_table(paths, partitioning=None).num_rows


if __name__ == "__main__":
    jobs: list[Callable[..., Work]] = [
        list_boto3,
        lines_boto3,
        lines_s3fs,
        lines_s3fs_buffered,
        lines_obstore,
        elements_ijson,
        get_files,
        read_parquet,
    ]
    serve({job.__name__: job for job in jobs}, libraries=LIBRARIES)
