"""`pixel sync`: copy the Drive into the raw tier, or show what would be copied."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_pipeline.cli.console import Flag, Json, print_json, say, suggest_next, transfer_bar
from pixel_pipeline.cli.exit_codes import ExitCode
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from pixel_pipeline.sync.report import SyncReport

MAX_SHOWN_FILES = 20


def sync(
    dry_run: Annotated[bool, Flag("--dry-run", help="Copy nothing; show what would be copied.")] = False,
    as_json: Json = False,
) -> None:
    """Copy new and changed files from the Drive into the lake.

    The Drive is PIXEL_DRIVE_REMOTE. Afterwards both sides are compared; exit code 1 if a file is missing or differs.

    \b
    Examples:
      pixel sync --dry-run
      pixel sync
    """
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
        raise typer.Exit(ExitCode.NEGATIVE)


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
    copied, replaced = counts["copied"], counts["replaced"]
    parts = [
        f"{copied:,} new and {replaced:,} changed {'file' if copied + replaced == 1 else 'files'} "
        f"{'would be ' * dry_run}copied ({decimal(report.copied_bytes())})",
        f"{counts['unchanged']:,} unchanged",
    ]
    if counts["kept"]:
        parts.append(f"{counts['kept']:,} only in raw, kept there")
    say(f"{report.source} → {report.destination}: {', '.join(parts)}")
    if dry_run:
        rows = report.rows.to_pylist()
        _list([f"     new  {row['path']}" for row in rows if row["action"] == "copied"])
        _list([f" changed  {row['path']}" for row in rows if row["action"] == "replaced"])
    _list([f"{row['reason']}  {row['path']}" for row in report.problems().to_pylist()])
    if not dry_run:
        say(report.verdict(), style=None if report.complete else "red")
        suggest_next("dagster job execute -j prepare_data")


def _list(lines: list[str]) -> None:
    for line in lines[:MAX_SHOWN_FILES]:
        say(line)
    if len(lines) > MAX_SHOWN_FILES:
        say(f"… and {len(lines) - MAX_SHOWN_FILES:,} more", style="dim")
