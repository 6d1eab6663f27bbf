"""The sensor that converts changed families, and asks again for conversions that failed."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import dagster as dg
import orjson

from pixel_pipeline.defs.partitions import known_families
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake.inventory import Position, newest_position, touched_since
from pixel_pipeline.lake.tables.table import TableMissingError, VersionGoneError
from pixel_pipeline.settings import get_settings

TICK_SECONDS = 60
# Each run has to start: beyond this number, one run of all families, which skips unchanged ones, is faster.
MOST_RUNS = 20
# Marks the sensor's runs.
TAG = {"pixel/requested_by": "raw_changes"}
# Doubles with every further failure.
RETRY_AFTER = timedelta(minutes=5)
LONGEST_RETRY = timedelta(hours=6)
LOOKED_AT_RUNS = 500


@dg.definitions
def sensor_definitions() -> dg.Definitions:
    """The sensor `raw_changes`. It is on from the start only where a Drive is configured; otherwise people switch it on in the UI."""
    return dg.Definitions(sensors=[raw_changes(running=get_settings().drive_remote is not None)])


def raw_changes(*, running: bool) -> dg.SensorDefinition:
    """The sensor that follows the changes of the inventory.

    A tick reads the changes recorded after its cursor and never lists the bucket. The cursor is a position in the log of changes, not a
    time, so changes within one second are not lost. Changes that are read twice ask for the same run keys, which Dagster starts once.

    One run converts all families if there is no cursor yet, if a family has disappeared (its records must be removed), or if many changed.
    It costs little for unchanged families.

    A family whose last run failed is asked for again, after a wait that doubles with every failure.

    Args:
        running: Whether the sensor is on from the start.
    """

    @dg.sensor(
        asset_selection=dg.AssetSelection.assets("conversations"),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Converts the families whose raw objects changed since the last tick, and retries failed conversions.",
    )
    def raw_changes(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            requests, cursor = changed_families(context, lake)
        except TableMissingError:
            return dg.SkipReason("There is no inventory yet. Run the job `sync_raw` or `refresh_inventory`.")
        families = {request.partition_key for request in requests}
        requests += [
            request
            for request in failed_families(context.instance, now=datetime.now(UTC))
            if request.partition_key not in families
        ]
        if not requests and cursor == context.cursor:
            return dg.SkipReason("Nothing changed in raw.")
        return dg.SensorResult(requests, cursor=cursor)

    return raw_changes


def changed_families(
    context: dg.SensorEvaluationContext, lake: LakeResource
) -> tuple[list[dg.RunRequest], str]:
    """Requests for families that changed since the cursor, and the new cursor."""
    store = lake.open()
    # Before anything is read: the next tick reads again what is recorded meanwhile.
    newest = newest_position(store)
    cursor = orjson.dumps([newest.table, newest.version]).decode()
    everything = [dg.RunRequest(run_key=f"all families at {newest.table}:{newest.version}", tags=TAG)]
    if context.cursor is None:
        return everything, cursor
    seen = Position(*orjson.loads(context.cursor))
    if seen == newest:
        return [], cursor
    try:
        touched = touched_since(store, seen)
    except VersionGoneError:
        return everything, cursor
    if len(touched) > MOST_RUNS or not touched.keys() <= known_families(context.instance):
        return everything, cursor
    return [
        # The time distinguishes changes of one family, also a return to an earlier state.
        dg.RunRequest(run_key=f"{family} at {noticed.isoformat()}", partition_key=family, tags=TAG)
        for family, noticed in touched.items()
    ], cursor


def failed_families(instance: dg.DagsterInstance, *, now: datetime) -> list[dg.RunRequest]:
    """Requests for the sensor's runs that failed long enough ago and that no later run has made good."""
    failures: dict[str | None, list[dg.RunRecord]] = defaultdict(list)
    settled: set[str | None] = set()
    # Newest first.
    for record in instance.get_run_records(dg.RunsFilter(tags=TAG), limit=LOOKED_AT_RUNS):
        family = record.dagster_run.tags.get("dagster/partition")
        if settled & {family, None}:
            continue
        if record.dagster_run.status is dg.DagsterRunStatus.FAILURE:
            failures[family].append(record)
        else:
            settled.add(family)
    known = {None, *known_families(instance)}
    return [
        dg.RunRequest(run_key=f"again after {records[0].dagster_run.run_id}", partition_key=family, tags=TAG)
        for family, records in failures.items()
        if family in known and now >= _ended(records[0]) + _wait(failures=len(records))
    ]


def _ended(record: dg.RunRecord) -> datetime:
    ended = (
        record.update_timestamp if record.end_time is None else datetime.fromtimestamp(record.end_time, UTC)
    )
    return ended.replace(tzinfo=ended.tzinfo or UTC)


def _wait(*, failures: int) -> timedelta:
    wait: timedelta = RETRY_AFTER * 2 ** min(failures - 1, 20)
    return min(wait, LONGEST_RETRY)
