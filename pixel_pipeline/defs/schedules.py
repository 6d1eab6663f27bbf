"""What runs by the clock: the sync of the Drive, and the listing of what came by other ways."""

import dagster as dg

from pixel_pipeline.defs.jobs import refresh_inventory, sync_raw
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.errors import SettingsError
from pixel_pipeline.lake.raw import is_empty
from pixel_pipeline.settings import Settings

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """`sync_raw` and `refresh_inventory` by the crons of the settings; switched on where a Drive is configured.

    Raises:
        SettingsError: a cron expression is none.
    """
    return [
        _schedule(
            settings,
            job=sync_raw.name,
            cron=settings.sync_cron,
            variable="PIXEL_SYNC_CRON",
            description="Copies the Drive into the raw tier and lists it.",
        ),
        _schedule(
            settings,
            job=refresh_inventory.name,
            cron=settings.inventory_cron,
            variable="PIXEL_INVENTORY_CRON",
            description="Lists the raw tiers, for what came by other ways than the sync.",
            needs_objects=True,
        ),
    ]


def _schedule(
    settings: Settings,
    *,
    job: str,
    cron: str,
    variable: str,
    description: str,
    needs_objects: bool = False,
) -> dg.ScheduleDefinition:
    def evaluate(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        # A long run may hold the queue for hours: one run waits behind it, not one of each tick.
        if context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(f"A run of {job} has not finished yet.")
        if needs_objects and is_empty(lake.open()):
            return dg.SkipReason("Nothing lies in the raw tiers yet.")
        return dg.RunRequest()

    status = dg.DefaultScheduleStatus.RUNNING if settings.drive_remote else dg.DefaultScheduleStatus.STOPPED
    try:
        return dg.schedule(
            name=f"{job}_schedule",
            job_name=job,
            cron_schedule=cron,
            execution_timezone=settings.timezone,
            default_status=status,
            description=description,
        )(evaluate)
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"{variable} is not a cron expression.",
            hint="Give minute, hour, day, month and weekday, e.g. `0 3 * * *` for every night at three.",
        ) from None
