"""`pixel families list | suggest`: which raw objects belong together, and rules for those that no rule names."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from pixel_pipeline.cli.console import Json, err, out, print_json
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from pixel_pipeline.conversations.families.config import FamilyConfig

families = typer.Typer(
    help="Which raw objects belong together: the rules of families.yaml, and suggestions for more.",
    no_args_is_help=True,
)


@families.command("list")
def families_list(as_json: Json = False) -> None:
    """Families with category, dataset, raw objects, and the rule that makes them."""
    from rich import box
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table as RichTable

    from pixel_pipeline.conversations.families.family_list import list_families

    found = list_families(*_inventory_and_rules())
    if as_json:
        print_json([{**asdict(family), "why": family.why} for family in found])
        return
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("family", "category", "dataset"):
        table.add_column(name, overflow="fold")
    for name in ("objects", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by", overflow="fold")
    for family in found:
        size = decimal(family.bytes)
        table.add_row(family.family, family.category, family.dataset, f"{family.objects:,}", size, family.why)
    Console(width=max(out.width, 120), highlight=False).print(table)


@families.command("suggest")
def families_suggest(as_json: Json = False) -> None:
    """Rules for what no rule names, as YAML for families.yaml: categories are guessed from the names of folders and files."""
    from pixel_pipeline.conversations.families.suggestions import as_yaml, suggest

    inventory, config = _inventory_and_rules()
    suggestions = suggest(inventory, config)
    if as_json:
        print_json(asdict(suggestions))
        return
    out.print(as_yaml(suggestions, below=bool(config.rules)), end="", markup=False, soft_wrap=True)
    taken = sum(rule.objects for rule in suggestions.rules)
    left = sum(place.objects for place in suggestions.unnamed)
    err.print(
        f"{len(suggestions.rules)} rules for {taken:,} objects; no word says anything of {left:,} others"
    )
    if suggestions.rules:
        where = "below the rules" if config.rules else "in place of `rules: []`"
        path = get_settings().families_file
        err.print(f"Look them through, and put them {where} in {path}.", markup=False, soft_wrap=True)


def _inventory_and_rules() -> "tuple[pa.Table, FamilyConfig]":
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.lake import keys
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.lake.tables.table import Table

    settings = get_settings()
    config = FamilyConfig.load(settings.families_file)
    lake = Lake.open(settings)
    lake.check()
    inventory = Table(lake, keys.INVENTORY)
    if not inventory.exists():
        raise PixelError("Raw was not listed yet.", hint="dagster job execute -j refresh_inventory")
    return inventory.read(columns=["key", "size"]), config
