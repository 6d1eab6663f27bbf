"""`pixel doctor`: check whether this machine and its settings can do the work of the profile."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text
import typer

from pixel_pipeline.cli.console import Json, err, out, print_json
from pixel_pipeline.cli.exit_codes import ExitCode
from pixel_pipeline.errors import SettingsError
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from pixel_pipeline.lake.doctor.probing import Finding, Probe

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def doctor(as_json: Json = False) -> None:
    """Check this machine and its settings, with a fix for each problem.

    Checks credentials, buckets, the Drive, the GPU and Dagster. Exit code 1 if a check fails; warnings are allowed.
    """
    from pixel_pipeline.cli.machine.probes import machine_probes, settingless_probes
    from pixel_pipeline.lake.doctor.access import Access
    from pixel_pipeline.lake.doctor.doctor import lake_probes
    from pixel_pipeline.lake.doctor.probing import Probe, examine, fail

    access: Access | None = None
    try:
        access = Access(get_settings())
        probes = [*lake_probes(access), *machine_probes(access.settings)]
    except SettingsError as error:
        broken = fail(error.message, error.hint or "Correct it in the environment or in .env.")
        probes = [Probe("settings", "access", lambda: broken), *settingless_probes()]
    profile = access.settings.profile if access else None
    checks: list[dict[str, str | None]] = []
    group = ""
    try:
        with err.status("checking"):
            for probe, finding in examine(probes):
                checks.append({"name": probe.name, "group": probe.group, **asdict(finding)})
                if not as_json:
                    _show(probe, finding, heading=probe.group != group)
                    group = probe.group
    finally:
        if access is not None:
            access.clear_away()
    count = Counter(check["verdict"] for check in checks)
    works = not count["fail"]
    if as_json:
        print_json({"ok": works, "profile": profile, "checks": checks})
    else:
        tally = ", ".join(f"{count[verdict]} {verdict}" for verdict in STYLES if count[verdict])
        can = "can work here" if works else "cannot work here"
        subject = f"Profile {profile}" if profile else "These settings"
        out.print(f"\n[bold]{subject} {can}[/bold]: {tally}.")
    if not works:
        raise typer.Exit(ExitCode.NEGATIVE)


def _show(probe: "Probe", finding: "Finding", *, heading: bool) -> None:
    if heading:
        out.print(f"\n[bold]{probe.group}[/bold]")
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=4)
    line.add_column(width=18)
    line.add_column(overflow="fold")
    muted = "dim" if finding.verdict == "skip" else ""
    line.add_row(Text(finding.verdict, STYLES[finding.verdict]), Text(probe.name), Text(finding.found, muted))
    if finding.fix is not None:
        line.add_row("", "", Text(f"→ {finding.fix}", muted or "cyan"))
    out.print(Padding(line, (0, 0, 0, 2), expand=False))
