"""What runs by itself once conversations changed: curation and the registry, and nothing after them.

Tokenizing and training are started by people. They have no automation condition, and the sensor does not select them.
"""

import dagster as dg

FOLLOW_UPSTREAM = (
    # Everything upstream is there and at rest, and something of it is new …
    dg.AutomationCondition.eager()
    # … and its blocking checks hold: what `conservation` refused is never registered by itself.
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follow_upstream")


def automation(*, running: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of `curated` and `dataset_registry`, every half minute.

    Args:
        running: Switched on from the start; otherwise by hand in the UI.
    """
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.assets("curated", "dataset_registry"),
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Curates and registers what was converted. Never tokenizes, never trains.",
    )
