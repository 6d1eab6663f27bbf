"""What assets are given: the lake, the family rules, the executor of the settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import dagster as dg

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.compute.opening import open_executor
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings


class LakeResource(dg.ConfigurableResource["LakeResource"]):
    """The lake of this process's settings.

    Settings come from the environment alone: nothing secret passes through run configuration, which Dagster stores.
    """

    def settings(self) -> Settings:
        """Settings of the present environment."""
        return get_settings()

    def open(self) -> Lake:
        """Connect, and fail readably where an endpoint, key or bucket is wrong."""
        lake = Lake.open(self.settings())
        lake.check()
        return lake

    def families(self) -> FamilyConfig:
        """The rules of `families.yaml`."""
        return FamilyConfig.load(self.settings().families_file)

    def executor(self) -> Executor:
        """Where tasks run by the settings."""
        return open_executor(**self.settings().executor_options())


class _HasLog(Protocol):
    @property
    def log(self) -> dg.DagsterLogManager: ...


@contextmanager
def readable_failure(context: _HasLog) -> Iterator[None]:
    """Errors as their reader needs them.

    Our own errors fail the step with their message. Only the transient among them are left to the asset's retry policy: on
    any other the same input would fail again. An interruption is told in a sentence and goes its way.
    """
    try:
        yield
    except PixelError as error:
        raise dg.Failure(description=str(error), allow_retries=error.transient) from None
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        context.log.error("Interrupted. Nothing half-written is visible; run it again to go on.")
        raise
