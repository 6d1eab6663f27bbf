"""`pixel sample | ingest | status`: what goes into the lake, and what it holds."""

from dataclasses import asdict
from pathlib import Path
import sys
from typing import Annotated, Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
import typer

from pixel_pipeline.cli.console import Json, err, out, print_json, transfer_bar
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings


def sample(
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: the sample Drive.")
    ] = None,
    conversations: Annotated[int, typer.Option(min=150, help="How many conversations.")] = 5000,
    as_json: Json = False,
) -> None:
    """Write the sample Drive: a seeded folder of invented counselling conversations, with planted dirt."""
    from pixel_pipeline.sample.drive import write_sample_drive

    settings = get_settings()
    folder = output or settings.home / "drive"
    with err.status(f"writing the sample Drive to {folder}"):
        manifest = write_sample_drive(folder, seed=settings.seed, conversations=conversations)
    content = manifest.to_json()
    if output is None:
        (settings.home / "sample.json").write_text(content)
    if as_json:
        sys.stdout.write(content + "\n")
        return
    err.print(f"sample Drive: {folder}, {len(manifest.files)} files, seed {settings.seed}")


def ingest(
    path: Annotated[Path, typer.Argument(help="Folder or file to copy into the raw tier.")],
    name: Annotated[str | None, typer.Option("--as", help="Folder below `acquired/` to put it in.")] = None,
    as_json: Json = False,
) -> None:
    """Copy local files into the lake's raw tier, below `acquired/`. The job `prepare_data` then converts them."""
    from pixel_pipeline.lake import keys
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.sync.ingest import copy_to_lake

    if not path.exists():
        raise PixelError(f"There is nothing at {path}.", hint="Give the path of a folder or a file.")
    prefix = keys.ACQUIRED if name is None else f"{keys.ACQUIRED}/{name.strip('/')}"
    lake = Lake.open(get_settings())
    lake.check()
    with transfer_bar(f"copying {path}") as update:
        report = copy_to_lake(path, lake=lake, prefix=prefix, report=update)
    if as_json:
        print_json(asdict(report))
        return
    err.print(
        f"{report.copied:,} objects copied to {report.destination}, {report.checked - report.copied:,} unchanged"
    )
    err.print("Next: [bold]dagster job execute -j prepare_data[/bold]")


def status(as_json: Json = False) -> None:
    """What the lake holds, by family: raw, converted, curated, tokens."""
    if as_json:
        print_json(_status())
        return
    show_status()


def _status() -> dict[str, Any]:
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.curation.accounts import read_accounts
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.tokens.shards import ShardManifest, TokenShardsNotFoundError, current_manifest_key

    settings = get_settings()
    lake = Lake.open(settings)
    lake.check()
    accounts = read_accounts(lake, FamilyConfig.load(settings.families_file))
    tokens: dict[str, int] = {}
    try:
        manifest = ShardManifest.load(lake.data, current_manifest_key(lake.data))
        tokens = {name: family.tokens for name, family in manifest.families.items()}
    except TokenShardsNotFoundError:
        err.print("no token shards yet", style="dim")
    families = [
        {
            "family": account.family,
            "objects": account.objects,
            "bytes": account.bytes,
            "records": account.records_in,
            "converted": account.converted,
            "quarantined": dict(account.quarantined),
            "dropped": dict(account.skipped + account.dropped),
            "curated": account.curated.total(),
            "tokens": tokens.get(account.family, 0),
        }
        for account in accounts.values()
    ]
    return {"bucket": lake.data.name, "endpoint": lake.target.endpoint, "families": families}


def show_status() -> None:
    """The table of `pixel status`."""
    report = _status()
    families = report["families"]
    if not families:
        err.print(
            "The lake is empty. `make demo` fills it with samples; `pixel ingest PATH` and `dagster job execute -j "
            "prepare_data` with your own."
        )
        return
    table = RichTable(
        title=f"s3://{report['bucket']}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_footer=len(families) > 1,
        padding=(0, 1, 0, 0),
    )
    numeric = ("files", "records", "converted", "quar.", "dropped", "curated", "tokens")
    rows = [
        (
            family["family"],
            family["objects"],
            family["records"],
            family["converted"],
            sum(family["quarantined"].values()),
            sum(family["dropped"].values()),
            family["curated"],
            family["tokens"],
        )
        for family in families
    ]
    # Where the terminal is narrow the family's name gives way, no number does.
    table.add_column(
        "family", footer="all", overflow="ellipsis", no_wrap=True, max_width=max(13, out.width - 66)
    )
    for index, name in enumerate(numeric, 1):
        table.add_column(name, justify="right", no_wrap=True, footer=_number(sum(row[index] for row in rows)))
    for row in rows:
        table.add_row(row[0], *(_number(value) for value in row[1:]))
    Console(width=max(out.width, 200), highlight=False).print(table)
    for kind in ("quarantined", "dropped"):
        total: dict[str, int] = {}
        for family in families:
            for reason, n in family[kind].items():
                total[reason] = total.get(reason, 0) + n
        if total:
            out.print(f"{kind}: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(total.items())))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
