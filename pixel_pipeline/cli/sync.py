"""`pixel sync`: the Drive into the raw tier, or what that would do."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_pipeline.cli.console import EXIT_ERROR, Json, err, print_json, transfer_bar
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from pixel_pipeline.sync.report import SyncReport

SHOWN_FILES = 20


def sync(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Copy nothing; show what would be copied.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy what is new or changed on the Drive into the raw tier and compare the two. Exit code 1 if anything is missing."""
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.sync.drive import sync_drive
    from pixel_pipeline.sync.options import SyncOptions

    settings = get_settings()
    lake = Lake.open(settings)
    with transfer_bar(
        f"comparing {settings.drive_source}" if dry_run else f"syncing {settings.drive_source}"
    ) as update:
        report = sync_drive(
            settings.drive_source, lake=lake, options=SyncOptions.of(settings), report=update, dry_run=dry_run
        )
    if as_json:
        print_json(_document(report, dry_run=dry_run))
    else:
        _show(report, dry_run=dry_run)
    if report.reasons() if dry_run else not report.complete:
        raise typer.Exit(EXIT_ERROR)


def _document(report: "SyncReport", *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "complete": report.complete and not dry_run,
        "source": report.source,
        "destination": report.destination,
        "counts": dict(report.counts()),
        "copied_bytes": report.copied_bytes(),
        "seconds": report.seconds,
        "verified": report.verified,
        "fault": report.fault,
        "files": [
            {name: row[name] for name in ("path", "action", "size", "reason")}
            for row in report.rows.to_pylist()
            if row["action"] != "unchanged"
        ],
    }


def _show(report: "SyncReport", *, dry_run: bool) -> None:
    from rich.filesize import decimal

    counts = report.counts()
    told = [
        f"{counts['copied']:,} new and {counts['replaced']:,} changed files {'would be ' * dry_run}copied "
        f"({decimal(report.copied_bytes())})",
        f"{counts['unchanged']:,} unchanged",
    ]
    if counts["kept"]:
        told.append(f"{counts['kept']:,} only in raw, which are kept")
    err.print(f"{report.source} → {report.destination}: {', '.join(told)}", markup=False, soft_wrap=True)
    if dry_run:
        rows = report.rows.to_pylist()
        _list([f"     new  {row['path']}" for row in rows if row["action"] == "copied"])
        _list([f" changed  {row['path']}" for row in rows if row["action"] == "replaced"])
    _list([f"{row['reason']}  {row['path']}" for row in report.problems().to_pylist()])
    if not dry_run:
        err.print(report.verdict(), style=None if report.complete else "red", markup=False, soft_wrap=True)
        err.print("Next: [bold]dagster job execute -j prepare_data[/bold]")


def _list(lines: list[str]) -> None:
    for line in lines[:SHOWN_FILES]:
        err.print(line, markup=False, soft_wrap=True)
    if len(lines) > SHOWN_FILES:
        err.print(f"… and {len(lines) - SHOWN_FILES:,} more", style="dim")
