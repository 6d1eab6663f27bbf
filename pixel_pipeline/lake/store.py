"""The two buckets of the lake."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import obstore
from obstore.store import S3Store
import orjson

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.errors import ObjectNotFoundError
from pixel_pipeline.lake.ranged import CHUNK_BYTES, RangedReader, bare_etag
from pixel_pipeline.lake.target import Target
from pixel_pipeline.lake.translation import translated
from pixel_pipeline.settings import Settings

# The libraries' default of ten retries in three minutes leaves a user with a wrong endpoint in the dark.
MAX_RETRIES = 4
RETRY_SECONDS = 30
CONNECT_SECONDS = 5
REQUEST_SECONDS = 120


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing. `size` in bytes; `etag` without quotes; `last_modified` with time zone."""

    key: str
    size: int
    etag: str
    last_modified: datetime


class Bucket:
    """Objects of one bucket, by key. Every error names the operation and the object."""

    def __init__(self, *, name: str, target: Target) -> None:
        self.name = name
        self.target = target
        client_options: dict[str, Any] = {
            "allow_http": target.allow_http,
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        }
        if target.ca_bundle is not None:
            client_options["root_certificate"] = target.ca_bundle.read_bytes()
        config: dict[str, Any] = {
            "access_key_id": target.access_key,
            "secret_access_key": target.secret_key,
            "region": target.region,
        }
        if target.session_token is not None:
            config["session_token"] = target.session_token
        if target.endpoint is not None:
            config["endpoint"] = target.endpoint
        self.store = S3Store(
            bucket=name,
            config=config,  # type: ignore[arg-type]
            client_options=client_options,  # type: ignore[arg-type]
            retry_config={
                "max_retries": MAX_RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"

    def uri(self, key: str = "") -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.name}/{key}"

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFoundError."""
        with self.translated("read", key):
            return bytes(obstore.get(self.store, key).bytes())

    def get_json(self, key: str) -> Any:
        """The object parsed as JSON. Raises ObjectNotFoundError, or PixelError where it is no JSON."""
        try:
            return orjson.loads(self.get(key))
        except orjson.JSONDecodeError:
            raise PixelError(
                f"{self.uri(key)} is not valid JSON.", hint="Restore or delete it, and run again."
            ) from None

    def exists(self, key: str) -> bool:
        """True if an object lies at exactly this key."""
        try:
            with self.translated("look up", key):
                obstore.head(self.store, key)
        except ObjectNotFoundError:
            return False
        return True

    def put(self, key: str, data: bytes | Path, *, create_only: bool = False) -> str:
        """Store an object atomically; returns its ETag.

        Args:
            data: Bytes, or a local file whose bytes are streamed (multipart above 5 MiB).
            create_only: Refuse to replace: raises ObjectExistsError when the key is taken.
        """
        with self.translated("write", key):
            result = obstore.put(self.store, key, data, mode="create" if create_only else "overwrite")
        return bare_etag(result["e_tag"])

    def put_json(self, key: str, value: Any) -> str:
        """Store a value as indented JSON with sorted keys, so that equal values are equal bytes."""
        return self.put(key, orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below a prefix, sorted by key. The prefix is a folder: `a/b` does not list `a/bc`."""
        with self.translated("list", prefix):
            for batch in obstore.list(self.store, prefix.rstrip("/") or None, chunk_size=1000):
                for item in batch:
                    yield ObjectInfo(
                        key=item["path"],
                        size=item["size"],
                        etag=bare_etag(item["e_tag"]),
                        last_modified=item["last_modified"],
                    )

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key without an object is no error."""
        wanted = [*keys]
        for start in range(0, len(wanted), 1000):
            with self.translated("delete", wanted[start]):
                obstore.delete(self.store, wanted[start : start + 1000])

    def download(self, key: str, path: Path) -> None:
        """Stream an object into a local file that appears whole or not at all."""
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with self.translated("read", key), partial.open("wb") as file:
                for chunk in obstore.get(self.store, key).stream(min_chunk_size=CHUNK_BYTES):
                    file.write(chunk)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        """A seekable binary reader over ranged GETs of 8 MiB, all pinned to one version of the object.

        Args:
            etag: The version expected there, without quotes; by default the one that lies there now.

        Raises:
            ObjectNotFoundError: nothing lies at the key.
            ObjectChangedError: another version lies there, at once or later while reading.
        """
        return cast(BinaryIO, io.BufferedReader(RangedReader(self, key=key, etag=etag), CHUNK_BYTES))

    def check(self) -> None:
        """One cheap listing, so that a wrong setting is told before any work is done."""
        with self.translated("list", ""):
            next(iter(obstore.list(self.store, "_pixel/", chunk_size=1)), None)

    def translated(self, operation: str, key: str) -> AbstractContextManager[None]:
        """Errors of the S3 client inside the block, in our own words (`translation.py`)."""
        return translated(operation, key=key, bucket=self.name, target=self.target)


@dataclass(frozen=True)
class Lake:
    """The data bucket, the checkpoint bucket, and the way in for table libraries."""

    data: Bucket
    checkpoints: Bucket
    target: Target

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect; with nothing configured, start the embedded server and create its buckets."""
        target = Target.resolve(settings)
        if target.ca_bundle is not None:
            # delta-rs takes certificate authorities only from the environment of the process.
            os.environ["SSL_CERT_FILE"] = str(target.ca_bundle)
        lake = cls(
            data=Bucket(name=settings.bucket, target=target),
            checkpoints=Bucket(name=settings.checkpoint_bucket, target=target),
            target=target,
        )
        if settings.uses_embedded_s3:
            for name in (settings.bucket, settings.checkpoint_bucket):
                embedded.ensure_bucket(settings.home, name)
        return lake

    def check(self) -> None:
        """Fail early and readably where a bucket cannot be listed."""
        self.data.check()
        self.checkpoints.check()

    def storage_options(self) -> dict[str, str]:
        """Options for delta-rs; they hold secrets and are never logged."""
        options = {
            "AWS_ACCESS_KEY_ID": self.target.access_key,
            "AWS_SECRET_ACCESS_KEY": self.target.secret_key,
            "AWS_REGION": self.target.region,
            "AWS_ALLOW_HTTP": "true" if self.target.allow_http else "false",
            # Commits are put-if-absent, which makes concurrent writers safe without a lock table.
            "AWS_CONDITIONAL_PUT": "etag",
            "max_retries": str(MAX_RETRIES),
            "retry_timeout": f"{RETRY_SECONDS}s",
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "timeout": f"{REQUEST_SECONDS}s",
        }
        if self.target.endpoint is not None:
            options["AWS_ENDPOINT_URL"] = self.target.endpoint
        if self.target.session_token is not None:
            options["AWS_SESSION_TOKEN"] = self.target.session_token
        return options
