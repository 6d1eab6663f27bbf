"""Schedules of the listing jobs, by the crons of the settings."""

import dagster as dg

from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.errors import SettingsError
from pixel_pipeline.lake.raw import is_empty
from pixel_pipeline.settings import Settings, get_settings

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.definitions
def schedule_definitions() -> dg.Definitions:
    """`sync_raw_schedule` and `refresh_inventory_schedule`, as the settings of this environment say."""
    return dg.Definitions(schedules=schedules(get_settings()))


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """The schedules of `sync_raw` and `refresh_inventory`, on from the start if a Drive is configured.

    Raises:
        SettingsError: A cron expression is invalid.
    """
    return [
        _schedule(
            settings,
            job="sync_raw",
            cron=settings.sync_cron,
            variable="PIXEL_SYNC_CRON",
            description="Copies the Drive to the raw tier and lists it.",
        ),
        _schedule(
            settings,
            job="refresh_inventory",
            cron=settings.inventory_cron,
            variable="PIXEL_INVENTORY_CRON",
            description="Lists the raw tiers, for objects that arrived without the sync.",
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
        # A long run may hold the queue for hours. One run then waits behind it, not one per tick.
        if context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(f"A run of {job} has not finished yet.")
        if needs_objects and is_empty(lake.open()):
            return dg.SkipReason("The raw tiers are empty.")
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
