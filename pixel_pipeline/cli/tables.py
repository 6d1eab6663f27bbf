"""`pixel vacuum`: remove files of tables that nobody needs any more."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from pixel_pipeline.cli.console import Json, err, print_json
from pixel_pipeline.settings import get_settings


def vacuum(
    days: Annotated[
        float, typer.Option(min=1, help="Keep files for so many days after they were superseded.")
    ] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, and delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove files of tables that only old versions need, and what killed writers left behind."""
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.lake.tables.vacuum import vacuum_all

    lake = Lake.open(get_settings())
    lake.check()
    with err.status("looking through the tables"):
        tables = vacuum_all(lake, older_than=timedelta(days=days), dry_run=dry_run)
    files, size = sum(table.files for table in tables), sum(table.bytes for table in tables)
    if as_json:
        print_json(
            {"dry_run": dry_run, "files": files, "bytes": size, "tables": [asdict(table) for table in tables]}
        )
        return
    for table in tables:
        if table.files:
            err.print(f"{table.table}  {table.files:,} files, {table.bytes:,} bytes")
    err.print(f"{len(tables)} tables: {files:,} files, {size:,} bytes {'would go' if dry_run else 'removed'}")
