"""The lake: its two buckets, and how libraries connect to them."""

from dataclasses import dataclass
import os
from typing import Self

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.client import table_options
from pixel_pipeline.lake.s3.conditional import ConditionalWrites
from pixel_pipeline.lake.s3.target import Target
from pixel_pipeline.settings import Settings


@dataclass(frozen=True)
class Lake:
    """The data bucket, the checkpoint bucket, and how libraries connect to them."""

    data: Bucket
    checkpoints: Bucket
    target: Target
    conditional: ConditionalWrites

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the lake. If nothing is configured, start the embedded server and create its buckets."""
        target = Target.resolve(settings)
        if target.ca_bundle is not None:
            # delta-rs reads certificate authorities only from the process environment.
            os.environ["SSL_CERT_FILE"] = str(target.ca_bundle)
        # The embedded server honours conditional writes, whatever the setting.
        conditional = ConditionalWrites(
            settings.home, "on" if settings.uses_embedded_s3 else settings.conditional_writes
        )
        data, checkpoints = (
            Bucket(name=name, target=target, before_create=conditional.require)
            for name in (settings.bucket, settings.checkpoint_bucket)
        )
        lake = cls(data=data, checkpoints=checkpoints, target=target, conditional=conditional)
        if settings.uses_embedded_s3:
            for name in (settings.bucket, settings.checkpoint_bucket):
                embedded.ensure_bucket(settings.home, name)
        return lake

    def check(self) -> None:
        """Raise an error if a bucket cannot be listed."""
        self.data.check()
        self.checkpoints.check()

    def storage_options(self) -> dict[str, str]:
        """Return the options for delta-rs. They contain secrets and are never logged."""
        return table_options(self.target)
