"""Automation of `curated` and `dataset_registry`: they follow changed conversations. People start tokenizing and training."""

import dagster as dg

from pixel_pipeline.settings import get_settings

RETRY_CRON = "*/30 * * * *"

FOLLOW_UPSTREAM = (
    # All upstream assets exist and none is being computed, and one of them is new; or the last run failed, and half an hour is over.
    (
        dg.AutomationCondition.eager()
        | (
            dg.AutomationCondition.execution_failed()
            & dg.AutomationCondition.cron_tick_passed(RETRY_CRON)
            & ~dg.AutomationCondition.in_progress()
        )
    )
    # Nothing that the check `conservation` refused is registered.
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follow_upstream")


@dg.definitions
def automation() -> dg.Definitions:
    """The sensor `automation`. It is on from the start only where a Drive is configured; otherwise people switch it on in the UI."""
    running = get_settings().drive_remote is not None
    return dg.Definitions(
        sensors=[
            dg.AutomationConditionSensorDefinition(
                "automation",
                target=dg.AssetSelection.assets("curated", "dataset_registry"),
                default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
                description="Curates and registers converted conversations. Never tokenizes, never trains.",
            )
        ]
    )
