"""`pixel quarantine list | show | replay`: records that could not be converted, and why."""

from collections import Counter
from dataclasses import asdict
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_pipeline.cli.console import Flag, Json, out, print_json, printable, say, suggest_next
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings
from pixel_pipeline.words import counted

if TYPE_CHECKING:
    from pixel_pipeline.conversations.quarantine.reading import QuarantinedRecord, Selection
    from pixel_pipeline.lake.lake import Lake

quarantine = typer.Typer(
    help="Show and replay records that could not be converted.\n\nOnly `show --raw` prints conversation text.",
    no_args_is_help=True,
)

Family = Annotated[str | None, typer.Option(help="Only records of this family.")]
ErrorClass = Annotated[
    str | None, typer.Option("--error", help="Only records of this error class, such as bad_json.")
]
Key = Annotated[
    str | None,
    typer.Option(help="Only records of these objects: a glob over raw keys, as in families.yaml."),
]


@quarantine.command("list")
def quarantine_list(
    family: Family = None,
    error: ErrorClass = None,
    key: Key = None,
    single: Annotated[bool, Flag("--records", help="List each record with its id and the reason.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Lines to print; --json prints all.")] = 100,
    as_json: Json = False,
) -> None:
    """Count or list quarantined records.

    Counts by family, object and error class; --records lists each record.

    \b
    Examples:
      pixel quarantine list
      pixel quarantine list --family cptsd --error bad_json
      pixel quarantine list --records --key 'gdrive/raw/Exports/**'
    """
    from pixel_pipeline.conversations.quarantine.reading import Selection

    lake, selection = _lake(), Selection(family=family, error_class=error, key=key)
    if single:
        _list_records(lake, selection, limit=None if as_json else limit, as_json=as_json)
    else:
        _list_counts(lake, selection, limit=limit, as_json=as_json)


@quarantine.command("show")
def quarantine_show(
    record: Annotated[
        str, typer.Argument(help="Id of a record or its first digits, or the key of its object.")
    ],
    position: Annotated[
        int | None, typer.Option(help="Position in the object, if several records are quarantined there.")
    ] = None,
    member: Annotated[str | None, typer.Option(help="Member of the archive, if the object is one.")] = None,
    raw: Annotated[
        bool, Flag("--raw", help="Print only the record's bytes. They are conversation text.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one record and the reason for its quarantine.

    \b
    Examples:
      pixel quarantine show 5c2fdef8
      pixel quarantine show gdrive/raw/Exports/a.jsonl --position 23595
      pixel quarantine show 5c2fdef8 --raw
    """
    from pixel_pipeline.conversations.quarantine.reading import find

    if raw and as_json:
        raise PixelError("--raw and --json exclude each other.", hint="Run the command once with each.")
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
    """Convert quarantined records again, after a correction.

    Use it after you corrected families.yaml or the code. All other objects keep their rows; without options, all families are replayed.

    \b
    Examples:
      pixel quarantine replay
      pixel quarantine replay --family cptsd --error one_sided
    """
    from pixel_pipeline.compute.opening import open_executor
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.conversations.quarantine.reading import Selection
    from pixel_pipeline.conversations.work.build import replay_quarantine

    lake, settings = _lake(), get_settings()
    config = FamilyConfig.load(settings.families_file)
    selection = Selection(family=family, error_class=error, key=key)
    replayed = []
    with open_executor(**settings.executor_options()) as executor:
        for report, before, after in replay_quarantine(
            lake, config=config, executor=executor, selection=selection
        ):
            replayed.append({"family": report.family, "before": before, "after": after})
            say(
                f"{report.family}: {counted(before, 'quarantined record')} before, {after:,} now; "
                f"{counted(report.records_out, 'conversation')}"
            )
    if as_json:
        print_json(replayed)
    elif replayed:
        suggest_next("dagster job execute -j prepare_data")
    else:
        say("No quarantined record matches this selection.")


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
            out.print(f"[bold]{family}[/bold]  {counted(by_family[family], 'record')}")
        line = f"{count.records:>9,}  {count.error_class:<22}  {printable(count.source_key)}"
        out.print(line, markup=False, soft_wrap=True)
    _show_rest(len(found) - limit)
    classes = ", ".join(f"{name} {n:,}" for name, n in by_class.most_common())
    say(f"{counted(by_class.total(), 'quarantined record')}{': ' if classes else ''}{classes}")


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
    _show_rest(total - len(found))


def _show_rest(n: int) -> None:
    if n > 0:
        say(f"… and {counted(n, 'more line')}: narrow the selection, or raise --limit", style="dim")


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
    part = (
        ""
        if len(kept) == record.raw_size
        else f" The first {len(kept):,} of {record.raw_size:,} bytes follow."
    )
    say(f"This is conversation text: keep it out of logs, issues and e-mails.{part}", style="yellow")
    sys.stdout.buffer.write(kept)
    sys.stdout.buffer.flush()
