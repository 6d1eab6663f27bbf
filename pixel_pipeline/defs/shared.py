"""Resources, logger and executor of all jobs."""

import dagster as dg

from pixel_pipeline.defs.console import console_logger
from pixel_pipeline.defs.io_manager import S3ParquetIOManager
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.training.messages import LineMessageReader
from pixel_pipeline.settings import project_root

# Enough for the trainer to finish its step and store a last checkpoint.
TERMINATION_TIMEOUT_SECONDS = 120


@dg.definitions
def shared() -> dg.Definitions:
    """`pipes` starts the training processes. Any Pipes client that takes a `command` may replace it."""
    lake = LakeResource()
    return dg.Definitions(
        resources={
            "lake": lake,
            "io_manager": S3ParquetIOManager(lake=lake),
            # The process inherits stdout and stderr, so the run's captured logs contain the output of libraries too.
            "pipes": dg.PipesSubprocessClient(
                env={"HF_HUB_DISABLE_TELEMETRY": "1"},
                cwd=str(project_root()),
                message_reader=LineMessageReader(),
                termination_timeout_seconds=TERMINATION_TIMEOUT_SECONDS,
            ),
        },
        loggers={"console": console_logger},
        # Steps run one after the other, and the heavy ones start processes of their own: a process for each step would only cost
        # its start.
        executor=dg.in_process_executor,
    )
