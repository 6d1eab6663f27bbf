"""Parquet files of a table as a lazily read dataset."""

from collections.abc import Iterable, Mapping
from functools import cache, reduce
from operator import and_
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.client import CONNECT_SECONDS, MAX_RETRIES, REQUEST_SECONDS
from pixel_pipeline.lake.s3.target import Target


class TableFile(NamedTuple):
    """One Parquet file: path below the table's key, size in bytes, and an expression that is true of all its rows."""

    path: str
    size: int
    truth: ds.Expression | None


def dataset_of(
    files: Iterable[TableFile], *, schema: pa.Schema, bucket: Bucket, key: str
) -> ds.FileSystemDataset:
    """Return a dataset over some files of a table, in their order.

    Scans read only the column chunks they need, skip files whose `truth` excludes them, and verify the page checksums.
    Columns that a file lacks are null.
    """
    filesystem = fs.SubTreeFileSystem(f"{bucket.name}/{key}", _arrow_s3(bucket.target))
    scanning = ds.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
    format_ = ds.ParquetFileFormat(default_fragment_scan_options=scanning)
    fragments = [
        format_.make_fragment(
            file.path, filesystem=filesystem, partition_expression=file.truth, file_size=file.size
        )
        for file in files
    ]
    return ds.FileSystemDataset(fragments, schema, format_, filesystem)


def in_partition(values: Mapping[str, str]) -> ds.Expression | None:
    """Return an expression that is true of all rows of a partition."""
    return reduce(and_, (ds.field(name) == value for name, value in values.items())) if values else None


@cache
def _arrow_s3(target: Target) -> fs.S3FileSystem:
    # Arrow's own client: its threads outlive the interpreter, so a filesystem in Python, such as delta-rs's, can abort the
    # process on exit.
    endpoint = urlsplit(target.endpoint) if target.endpoint else None
    return fs.S3FileSystem(
        access_key=target.access_key,
        secret_key=target.secret_key.get_secret_value(),
        session_token=target.session_token.get_secret_value() if target.session_token else None,
        region=target.region,
        scheme=endpoint.scheme if endpoint else "https",
        endpoint_override=endpoint.netloc if endpoint else None,
        tls_ca_file_path=str(target.ca_bundle) if target.ca_bundle else None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=MAX_RETRIES),
    )
