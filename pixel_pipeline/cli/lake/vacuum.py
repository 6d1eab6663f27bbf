"""`pixel vacuum`: delete table files that are no longer needed."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from pixel_pipeline.cli.console import Flag, Json, err, print_json, say
from pixel_pipeline.settings import get_settings
from pixel_pipeline.words import counted


def vacuum(
    days: Annotated[
        float, typer.Option(min=1, help="Keep files for this many days after they were replaced.")
    ] = 7,
    dry_run: Annotated[bool, Flag("--dry-run", help="Count the files, delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete table files that are no longer needed.

    These are files that only old versions use, and leftovers of killed writers.
    """
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.lake.tables.vacuum import vacuum_all

    lake = Lake.open(get_settings())
    lake.check()
    with err.status("reading the tables"):
        tables = vacuum_all(lake, older_than=timedelta(days=days), dry_run=dry_run)
    files, size = sum(table.files for table in tables), sum(table.bytes for table in tables)
    if as_json:
        print_json(
            {"dry_run": dry_run, "files": files, "bytes": size, "tables": [asdict(table) for table in tables]}
        )
        return
    for table in tables:
        if table.files:
            say(f"{table.table}: {counted(table.files, 'file')}, {counted(table.bytes, 'byte')}")
    removed = f"{counted(files, 'file')}, {counted(size, 'byte')} {'to delete' if dry_run else 'deleted'}"
    say(f"{counted(len(tables), 'table')}: {removed}")
