"""`pixel families list | suggest`: how raw objects are grouped, and rules for those that no rule matches."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from pixel_pipeline.cli.console import Json, out, print_json, say
from pixel_pipeline.cli.tables import Column, print_table
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings
from pixel_pipeline.words import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from pixel_pipeline.conversations.families.config import FamilyConfig

families = typer.Typer(
    help="Show families of raw objects, and suggest rules.",
    no_args_is_help=True,
)


@families.command("list")
def families_list(as_json: Json = False) -> None:
    """List families, and the rule that matches each of them."""
    from rich.filesize import decimal

    from pixel_pipeline.conversations.families.family_list import list_families

    found = list_families(*_inventory_and_rules())
    if as_json:
        print_json([{**asdict(family), "why": family.why} for family in found])
        return
    print_table(
        [
            *(Column(name) for name in ("family", "category", "dataset")),
            *(Column(name, numeric=True) for name in ("objects", "size")),
            Column("grouped by"),
        ],
        [
            (
                family.family,
                family.category,
                family.dataset,
                f"{family.objects:,}",
                decimal(family.bytes),
                family.why,
            )
            for family in found
        ],
    )


@families.command("suggest")
def families_suggest(as_json: Json = False) -> None:
    """Print rules for objects that no rule matches.

    The output is YAML for families.yaml. Categories are guessed from the names of folders and files.
    """
    from pixel_pipeline.conversations.families.suggestions import as_yaml, suggest

    inventory, config = _inventory_and_rules()
    suggestions = suggest(inventory, config)
    if as_json:
        print_json(asdict(suggestions))
        return
    out.print(as_yaml(suggestions, below=bool(config.rules)), end="", markup=False, soft_wrap=True)
    matched = sum(rule.objects for rule in suggestions.rules)
    left = sum(place.objects for place in suggestions.unnamed)
    say(
        f"{counted(len(suggestions.rules), 'rule')} for {counted(matched, 'object')}; the names of "
        f"{counted(left, 'other object')} suggest no category"
    )
    if suggestions.rules:
        where = "below the rules" if config.rules else "in place of `rules: []`"
        say(f"Review the rules and paste them {where} in {get_settings().families_file or 'families.yaml'}.")


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
        raise PixelError(
            "The raw tier has not been listed yet.", hint="Run `dagster job execute -j refresh_inventory`."
        )
    return inventory.read(columns=["key", "size"]), config
