"""Changes of raw, turned into conversion runs of just the families touched."""

import dagster as dg
import orjson

from pixel_pipeline.defs.assets.conversations import conversations
from pixel_pipeline.defs.partitions import known_families
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake.inventory import Position, newest_position, touched_since
from pixel_pipeline.lake.tables.table import TableMissingError, VersionGoneError

TICK_SECONDS = 60
# Runs follow one another, and each has to start: beyond this many, one run of all families, which skips the unchanged ones, is
# the quicker way.
MOST_RUNS = 20


def raw_changes(*, running: bool) -> dg.SensorDefinition:
    """The sensor that follows the inventory's changes.

    A tick reads the changes that were recorded after its cursor, and never lists the bucket. The cursor is a place in
    the log of changes, not a time, so that nothing that arrives in the same second is lost. It is all that the sensor
    remembers. Changes that are read twice ask for the same run keys, which Dagster starts once.

    One run converts all families where no cursor says what was seen, where a family is gone (its records have to leave
    the books), and where many were touched. It costs little for families that did not change.

    Args:
        running: Switched on from the start; otherwise by hand in the UI.
    """

    @dg.sensor(
        asset_selection=dg.AssetSelection.assets(conversations),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Converts the families whose raw objects changed since the last tick.",
    )
    def raw_changes(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            return _evaluate(context, lake)
        except TableMissingError:
            return dg.SkipReason("No inventory yet: run the job `sync_raw` or `refresh_inventory`.")

    return raw_changes


def _evaluate(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
    store = lake.open()
    # First: what is recorded while this tick reads will be read again by the next, never skipped.
    newest = newest_position(store)
    cursor = orjson.dumps([newest.table, newest.version]).decode()
    everything = dg.RunRequest(run_key=f"all families at {newest.table}:{newest.version}")
    if context.cursor is None:
        return dg.SensorResult([everything], cursor=cursor)
    seen = Position(*orjson.loads(context.cursor))
    if seen == newest:
        return dg.SkipReason("Nothing changed in raw.")
    try:
        touched = touched_since(store, seen)
    except VersionGoneError:
        return dg.SensorResult([everything], cursor=cursor)
    if len(touched) > MOST_RUNS or not touched.keys() <= known_families(context.instance):
        return dg.SensorResult([everything], cursor=cursor)
    requests = [
        # The time tells changes of one family apart, also where they come back to a state that was there before.
        dg.RunRequest(run_key=f"{family} at {noticed.isoformat()}", partition_key=family)
        for family, noticed in touched.items()
    ]
    return dg.SensorResult(requests, cursor=cursor)
