"""The lake as the doctor's probes share it, with a list of the objects they created."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import SplitResult

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.control import control_client, controlled
from pixel_pipeline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SETTLE_SECONDS = 5.0


class Access:
    """Settings, lake and control client, shared by all probes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # (bucket, key) of the probe objects that exist now.
        self._made: set[tuple[str, str]] = set()
        self._removed = threading.Condition()

    @cached_property
    def lake(self) -> Lake:
        """The lake; starts the embedded server if nothing is configured."""
        return Lake.open(self.settings)

    @cached_property
    def client(self) -> "S3Client":
        return control_client(self.lake.target)

    @property
    def buckets(self) -> tuple[Bucket, Bucket]:
        return self.lake.data, self.lake.checkpoints

    @property
    def url(self) -> SplitResult:
        """The endpoint, by default AWS's."""
        return self.lake.target.url

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the endpoint."""
        return str(self.url.hostname), self.url.port or (443 if self.url.scheme == "https" else 80)

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that trusts the system's authorities and those of PIXEL_S3_CA_BUNDLE."""
        context = ssl.create_default_context()
        if self.settings.ca_bundle is not None:
            context.load_verify_locations(self.settings.ca_bundle)
        return context

    def controlled(self, operation: str) -> AbstractContextManager[None]:
        """Raise errors of boto3 inside the block as ControlError."""
        return controlled(operation, target=self.lake.target)

    @contextmanager
    def making(self, bucket: Bucket, key: str) -> Iterator[None]:
        """Delete an object when the block ends."""
        self._made.add((bucket.name, key))
        try:
            yield
        finally:
            self._remove(bucket.name, key)

    def clear_away(self) -> None:
        """Delete the objects of unfinished probes, after giving them a moment to finish."""
        with self._removed:
            self._removed.wait_for(lambda: not self._made, timeout=SETTLE_SECONDS)
        for made in [*self._made]:
            self._remove(*made)

    def _remove(self, bucket: str, key: str) -> None:
        # The right to delete is checked by a probe; a later doctor deletes what remains.
        with suppress(PixelError), self.controlled("clear away"):
            self.client.delete_object(Bucket=bucket, Key=key)
        with self._removed:
            self._made.discard((bucket, key))
            self._removed.notify_all()
