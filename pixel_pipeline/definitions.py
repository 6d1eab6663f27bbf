"""One Definitions object: what `dagster` and `dg` load."""

import warnings

import dagster as dg

# Our users' terminals are no place for the framework's notes to its own users.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from pixel_pipeline.defs.assets import (  # noqa: E402
    conversations,
    curation,
    inventory,
    registry,
    sync,
    tokens,
    training,
)
from pixel_pipeline.defs.automation import automation  # noqa: E402
from pixel_pipeline.defs.checks.budgets import error_budget  # noqa: E402
from pixel_pipeline.defs.checks.conservation import conservation  # noqa: E402
from pixel_pipeline.defs.checks.sync import complete  # noqa: E402
from pixel_pipeline.defs.console import console_logger  # noqa: E402
from pixel_pipeline.defs.io_manager import S3ParquetIOManager  # noqa: E402
from pixel_pipeline.defs.jobs import (  # noqa: E402
    prepare_data,
    promote_model,
    refresh_inventory,
    sync_raw,
    train_moe,
)
from pixel_pipeline.defs.resources import LakeResource  # noqa: E402
from pixel_pipeline.defs.schedules import schedules  # noqa: E402
from pixel_pipeline.defs.sensors import raw_changes  # noqa: E402
from pixel_pipeline.settings import get_settings  # noqa: E402

_lake = LakeResource()
_settings = get_settings()
# Where only the sample Drive is there, nothing runs until someone asks for it.
_has_drive = _settings.drive_remote is not None

defs = dg.Definitions(
    assets=[
        sync.gdrive_sync,
        sync.sync_report,
        inventory.raw_inventory,
        conversations.conversations,
        curation.curated,
        registry.dataset_registry,
        tokens.token_shards,
        training.moe_checkpoint,
        training.evaluation,
        training.promoted_model,
    ],
    asset_checks=[complete, error_budget, conservation],
    jobs=[sync_raw, refresh_inventory, prepare_data, train_moe, promote_model],
    schedules=schedules(_settings),
    sensors=[raw_changes(running=_has_drive), automation(running=_has_drive)],
    resources={"lake": _lake, "io_manager": S3ParquetIOManager(lake=_lake)},
    loggers={"console": console_logger},
    # Steps follow one another, and the heavy ones have processes of their own: a process for each step would only
    # cost its start.
    executor=dg.in_process_executor,
)
