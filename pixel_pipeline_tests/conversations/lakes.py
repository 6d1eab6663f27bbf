"""A lake in a test, converted as it stands."""

from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.conversations.work.build import convert_family, families_of
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.tables.table import Table


def convert_all(lake: Lake, config: FamilyConfig | None = None) -> None:
    """Lists raw and converts every family."""
    config = config or FamilyConfig()
    inventory = list_raw(lake).objects
    Table(lake, keys.INVENTORY).overwrite(inventory)
    families = families_of(inventory, config=config, bucket=lake.data.name)
    with LocalExecutor(workers=1) as executor:
        for rule, objects in families.values():
            convert_family(lake, rule=rule, objects=objects, executor=executor)
