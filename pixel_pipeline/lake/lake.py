"""The lake: its two buckets, and how table libraries reach them."""

from contextlib import AbstractContextManager, nullcontext
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
        # The embedded server is known, whatever the setting.
        assumed = {"auto": None, "on": True, "off": False}[settings.conditional_writes]
        conditional = ConditionalWrites(
            home=settings.home, assumed=True if settings.uses_embedded_s3 else assumed
        )
        lake = cls(
            data=Bucket(name=settings.bucket, target=target, conditional=conditional),
            checkpoints=Bucket(name=settings.checkpoint_bucket, target=target, conditional=conditional),
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

    @property
    def single_writer(self) -> bool:
        """True where the store has no conditional writes (`conditional.py`). Asks it once in seven days."""
        conditional = self.data.conditional
        return conditional is not None and conditional.verdict(self.data) != "honoured"

    def writing(self, table: str) -> AbstractContextManager[None]:
        """To be held around reading a table's newest version and committing the next; not reentrant.

        Does nothing where conditional writes make commits safe. In single-writer mode it waits for the other processes
        of this machine that write the table.
        """
        conditional = self.data.conditional
        if conditional is None or not self.single_writer:
            return nullcontext()
        return conditional.alone(self.data, table)

    def storage_options(self) -> dict[str, str]:
        """Options for delta-rs; they hold secrets and are never logged."""
        return table_options(self.target)
