"""`python -m pixel_pipeline.defs.instance_report`: the Dagster instance of this environment as one JSON line."""

import json
import sys
import uuid

import dagster as dg

LINE = "pixel doctor\n"


def main() -> None:
    """Load the instance, query its storages, write and read a compute log, and print the results."""
    with dg.DagsterInstance.get() as instance:
        pools = instance.event_log_storage.get_pool_config()
        report = {
            "storage": type(instance.event_log_storage).__name__.removesuffix("EventLogStorage"),
            "runs": instance.get_runs_count(),
            "compute_logs": type(instance.compute_log_manager).__name__.removesuffix("ComputeLogManager"),
            "compute_logs_work": _logs_work(instance),
            "pools": {
                "granularity": pools.pool_granularity and pools.pool_granularity.value,
                "default_limit": pools.default_pool_limit,
            },
            "healthy_daemons": sum(
                status.healthy is True for status in instance.get_daemon_statuses().values()
            ),
        }
    print(json.dumps(report))  # noqa: T201


def _logs_work(instance: dg.DagsterInstance) -> bool:
    manager = instance.compute_log_manager
    folder = f"_doctor-{uuid.uuid4().hex}"
    log_key = [folder, "log"]
    try:
        with manager.capture_logs(log_key):
            print(LINE, end="", file=sys.stderr, flush=True)  # noqa: T201
        return manager.get_log_data(log_key).stderr == LINE.encode()
    finally:
        manager.delete_logs(prefix=[folder])


if __name__ == "__main__":
    main()
