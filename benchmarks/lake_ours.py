"""This project's side of `lake.py`. Runs in `.venv`, on the lake of its environment."""

from collections.abc import Callable

import orjson

from benchmarks.harness import serve
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings

Work = Callable[[], int]


def list_inventory() -> Work:
    from pixel_pipeline.lake.raw import list_raw

    lake = Lake.open(get_settings())
    return lambda: list_raw(lake).objects.num_rows


def refresh(listed_at: str) -> Work:
    """Refresh like `raw_inventory`: list, compare with the last inventory, commit both tables. Counts changes.

    Args:
        listed_at: Endpoint of the raw tiers; the tables are in the lake.
    """
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.lake.inventory import update_inventory
    from pixel_pipeline.lake.raw import list_raw

    settings = get_settings()
    lake = Lake.open(settings)
    listed = Lake.open(settings.model_copy(update={"endpoint": listed_at}))
    families = FamilyConfig.load(settings.families_file)

    def work() -> int:
        update = update_inventory(lake, list_raw(listed).objects, families=families.family_column)
        return sum(update.changes.values())

    return work


def tick(commits: int) -> Work:
    """Evaluate the sensor `raw_changes`, `commits` commits behind the log of changes. Counts requested runs."""
    import dagster as dg

    from pixel_pipeline.defs.conversations.sensors import raw_changes
    from pixel_pipeline.defs.partitions import FAMILIES
    from pixel_pipeline.defs.resources import LakeResource
    from pixel_pipeline.lake.inventory import Position, newest_position, touched_since

    lake = Lake.open(get_settings())
    newest = newest_position(lake)
    seen = Position(newest.table, newest.version - commits)
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions(FAMILIES.name or "", [*touched_since(lake, Position(newest.table, -1))])
    context = dg.build_sensor_context(
        instance=instance,
        cursor=orjson.dumps([seen.table, seen.version]).decode(),
        resources={"lake": LakeResource()},
    )
    sensor = raw_changes(running=False)

    def work() -> int:
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return len(result.run_requests or [])

    return work


def lines(uri: str) -> Work:
    from pixel_pipeline import S3DatasetLoader

    loader = S3DatasetLoader()
    return lambda: sum(1 for _ in loader.stream_jsonl(uri))


def elements(uri: str) -> Work:
    from pixel_pipeline import S3DatasetLoader

    loader = S3DatasetLoader()
    return lambda: sum(1 for _ in loader.stream_json(uri))


def load_table(table: str) -> Work:
    """Load a table with the IO manager. Counts rows."""
    import dagster as dg

    from pixel_pipeline.defs.io_manager import S3ParquetIOManager
    from pixel_pipeline.defs.resources import LakeResource

    upstream = dg.build_output_context(asset_key=["table"], definition_metadata={"table": table})
    context = dg.build_input_context(upstream_output=upstream)
    manager = S3ParquetIOManager(lake=LakeResource())
    return lambda: manager.load_input(context).to_table().num_rows


if __name__ == "__main__":
    jobs: list[Callable[..., Work]] = [list_inventory, refresh, tick, lines, elements, load_table]
    serve({job.__name__: job for job in jobs}, libraries=())
