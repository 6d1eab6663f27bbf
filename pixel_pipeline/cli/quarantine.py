"""`pixel quarantine list | show | replay`: what could not be converted, and why."""

from collections import Counter
from dataclasses import asdict
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_pipeline.cli.console import Json, err, out, print_json, printable
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from pixel_pipeline.conversations.quarantine.reading import QuarantinedRecord, Selection
    from pixel_pipeline.lake.lake import Lake

quarantine = typer.Typer(
    help="What could not be converted, and why. No conversation text is shown but by `show --raw`.",
    no_args_is_help=True,
)

Family = Annotated[str | None, typer.Option(help="Records of this family alone.")]
ErrorClass = Annotated[str | None, typer.Option("--error", help="Records of this error class alone.")]
Key = Annotated[
    str | None,
    typer.Option(help="Records of these objects alone: a glob over raw keys, as in families.yaml."),
]


@quarantine.command("list")
def quarantine_list(
    family: Family = None,
    error: ErrorClass = None,
    key: Key = None,
    single: Annotated[
        bool, typer.Option("--records", help="Each record with its id and its reason.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show so many lines; with --json all.")] = 100,
    as_json: Json = False,
) -> None:
    """How many records of which object are refused for what; with --records, one by one."""
    from pixel_pipeline.conversations.quarantine.reading import Selection

    lake, selection = _lake(), Selection(family=family, error_class=error, key=key)
    if single:
        _list_records(lake, selection, limit=None if as_json else limit, as_json=as_json)
    else:
        _list_counts(lake, selection, limit=limit, as_json=as_json)


@quarantine.command("show")
def quarantine_show(
    record: Annotated[
        str, typer.Argument(help="Id of a record, or its beginning; or the key of its object.")
    ],
    position: Annotated[int | None, typer.Option(help="Where in the object it stands.")] = None,
    member: Annotated[str | None, typer.Option(help="Which member of an archive it is in.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Its bytes on stdout, and nothing else: conversation text.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One record: where it stands, what is wrong with it, by which code."""
    from pixel_pipeline.conversations.quarantine.reading import find

    if raw and as_json:
        raise PixelError("--raw and --json exclude each other.", hint="Ask for the one, then for the other.")
    lake = _lake()
    found = find(lake, record, position=position, member=member)
    if raw:
        _write_raw(lake, found)
    elif as_json:
        print_json(_document(found))
    else:
        for name, value in _document(found).items():
            if value is not None:
                out.print(f"{name:>13}  {printable(str(value))}", markup=False, soft_wrap=True)


@quarantine.command("replay")
def quarantine_replay(
    family: Family = None, error: ErrorClass = None, key: Key = None, as_json: Json = False
) -> None:
    """Convert again what lies in quarantine, and nothing else: for after a correction of code or of families.yaml.

    All other records stay as they are, and count as converted by the present code. Without an option all families are
    looked at; the next `prepare_data` then finds them unchanged.
    """
    from pixel_pipeline.compute.opening import open_executor
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.conversations.quarantine.reading import Selection
    from pixel_pipeline.conversations.work.build import replay_quarantine

    lake, settings = _lake(), get_settings()
    config = FamilyConfig.load(settings.families_file)
    selection = Selection(family=family, error_class=error, key=key)
    told = []
    with open_executor(**settings.executor_options()) as executor:
        for report, before, after in replay_quarantine(
            lake, config=config, executor=executor, selection=selection
        ):
            told.append({"family": report.family, "before": before, "after": after})
            err.print(
                f"{report.family}: {before:,} records were in quarantine, {after:,} are now; "
                f"{report.records_out:,} conversations"
            )
    if as_json:
        print_json(told)
    elif told:
        err.print("Next: [bold]dagster job execute -j prepare_data[/bold]")
    else:
        err.print("Nothing in quarantine is meant.")


def _lake() -> "Lake":
    from pixel_pipeline.lake.lake import Lake

    lake = Lake.open(get_settings())
    lake.check()
    return lake


def _list_counts(lake: "Lake", selection: "Selection", *, limit: int, as_json: bool) -> None:
    from pixel_pipeline.conversations.quarantine.reading import counts

    found = counts(lake, selection)
    by_family: Counter[str] = Counter()
    by_class: Counter[str] = Counter()
    for count in found:
        by_family[count.family] += count.records
        by_class[count.error_class] += count.records
    if as_json:
        objects = [asdict(count) for count in found]
        print_json(
            {"records": by_class.total(), "errors": by_class, "families": by_family, "objects": objects}
        )
        return
    family = None
    for count in found[:limit]:
        if count.family != family:
            family = count.family
            out.print(f"[bold]{family}[/bold]  {by_family[family]:,} records")
        line = f"{count.records:>9,}  {count.error_class:<22}  {printable(count.source_key)}"
        out.print(line, markup=False, soft_wrap=True)
    _tell_rest(len(found) - limit)
    told = ", ".join(f"{name} {n:,}" for name, n in by_class.most_common())
    err.print(
        f"{by_class.total():,} records are quarantined{': ' if told else ''}{told}",
        markup=False,
        soft_wrap=True,
    )


def _list_records(lake: "Lake", selection: "Selection", *, limit: int | None, as_json: bool) -> None:
    from pixel_pipeline.conversations.quarantine.reading import records

    found, total = records(lake, selection, limit=limit)
    if as_json:
        print_json([_document(record) for record in found])
        return
    for record in found:
        line = (
            f"{record.id}  {record.error_class:<22}  {printable(_where(record))}: {printable(record.reason)}"
        )
        out.print(line, markup=False, soft_wrap=True)
    _tell_rest(total - len(found))


def _tell_rest(n: int) -> None:
    if n > 0:
        err.print(f"… and {n:,} more lines: narrow it down, or give a --limit", style="dim")


def _where(record: "QuarantinedRecord") -> str:
    place = record.source_key if record.member is None else f"{record.source_key}, {record.member}"
    return (
        place
        if record.position_kind in ("object", "rest")
        else f"{place}, {record.position_kind} {record.position}"
    )


def _document(record: "QuarantinedRecord") -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name != "ordinal"}


def _write_raw(lake: "Lake", record: "QuarantinedRecord") -> None:
    from pixel_pipeline.conversations.quarantine.reading import raw_bytes

    kept = raw_bytes(lake, record)
    part = "" if len(kept) == record.raw_size else f"; the first {len(kept):,} of {record.raw_size:,} bytes"
    err.print(f"This is conversation text: keep it out of logs, issues and mails{part}.", style="yellow")
    sys.stdout.buffer.write(kept)
    sys.stdout.buffer.flush()
