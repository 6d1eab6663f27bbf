"""The lake as a Dagster resource."""

import dagster as dg

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.compute.opening import open_executor
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings


class LakeResource(dg.ConfigurableResource["LakeResource"]):
    """The lake that the settings of this process name.

    Settings come from the environment alone: nothing secret passes through run configuration, which Dagster stores.
    """

    def settings(self) -> Settings:
        """Settings of the current environment."""
        return get_settings()

    def open(self) -> Lake:
        """Connect and check the endpoint, the keys and the buckets.

        Raises:
            LakeUnreachableError, LakeAccessError: see their classes.
        """
        lake = Lake.open(self.settings())
        lake.check()
        return lake

    def families(self) -> FamilyConfig:
        """The rules of `families.yaml`."""
        return FamilyConfig.load(self.settings().families_file)

    def executor(self) -> Executor:
        """The executor of conversion tasks: processes of this machine, or Ray."""
        return open_executor(**self.settings().executor_options())
