"""What the doctor's probes share: the way into the lake, and the list of what they have put there."""

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
    """What the probes share: the settings, and the way into the lake once it is known."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # (bucket, key, upload) of what lies in the lake at this moment.
        self._made: set[tuple[str, str, str | None]] = set()
        self._removed = threading.Condition()

    @cached_property
    def lake(self) -> Lake:
        """The lake; starts the embedded server where nothing else is configured."""
        return Lake.open(self.settings)

    @cached_property
    def client(self) -> "S3Client":
        """The control plane."""
        return control_client(self.lake.target)

    @property
    def buckets(self) -> tuple[Bucket, Bucket]:
        """Data and checkpoints."""
        return self.lake.data, self.lake.checkpoints

    @property
    def url(self) -> SplitResult:
        """The endpoint, AWS's own where none is set."""
        return self.lake.target.url

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the endpoint."""
        return str(self.url.hostname), self.url.port or (443 if self.url.scheme == "https" else 80)

    def tls_context(self) -> ssl.SSLContext:
        """Verifies against the system's authorities and those of PIXEL_S3_CA_BUNDLE."""
        context = ssl.create_default_context()
        if self.settings.ca_bundle is not None:
            context.load_verify_locations(self.settings.ca_bundle)
        return context

    def controlled(self, operation: str) -> AbstractContextManager[None]:
        """Errors of boto3 inside the block as ControlError."""
        return controlled(operation, target=self.lake.target)

    @contextmanager
    def making(self, bucket: Bucket, key: str, *, upload: str | None = None) -> Iterator[None]:
        """An object, or an upload of one, that is gone afterwards, however the block ends."""
        made = (bucket.name, key, upload)
        self._made.add(made)
        try:
            yield
        finally:
            self._remove(*made)

    def clear_away(self) -> None:
        """Remove what probes that do not end have made. Those that still work are given a moment, or they would make more."""
        with self._removed:
            self._removed.wait_for(lambda: not self._made, timeout=SETTLE_SECONDS)
        for made in [*self._made]:
            self._remove(*made)

    def _remove(self, bucket: str, key: str, upload: str | None) -> None:
        # Whether it may be removed is a probe of its own; what stays is removed by a later doctor.
        with suppress(PixelError), self.controlled("clear away"):
            if upload is None:
                self.client.delete_object(Bucket=bucket, Key=key)
            else:
                # Once it is complete there is nothing to abort.
                self.client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        with self._removed:
            self._made.discard((bucket, key, upload))
            self._removed.notify_all()
