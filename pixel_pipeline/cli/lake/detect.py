"""`pixel detect`: how a file is recognised, why, and what its conversion would give."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NamedTuple

from rich.filesize import decimal
from rich.table import Table as RichTable
from rich.text import Text
import typer

from pixel_pipeline.cli.console import Json, out, print_json, printable
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline.words import counted

if TYPE_CHECKING:
    from pixel_pipeline.conversations.families.config import FamilyConfig, FamilyRule
    from pixel_pipeline.conversations.inspect.explanation import Explanation

MAX_SHOWN = 6


class _Subject(NamedTuple):
    """The file or object to explain.

    Attributes:
        name: As given on the command line.
        key: Key in the raw tier; for a local file, the key that `pixel ingest` would give it.
        local: Whether it is a local file.
    """

    name: str
    key: str
    etag: str
    size: int
    stream: BinaryIO
    local: bool


def detect(
    file: Annotated[str, typer.Argument(help="Local file, raw key of the lake, or s3://bucket/key.")],
    key: Annotated[
        str | None,
        typer.Option(help="Apply the rules of families.yaml as if the file had this raw key."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain how a file is recognised and converted.

    Reads the first records only, writes nothing, and prints no conversation text.

    \b
    Examples:
      pixel detect ~/exports/sessions.jsonl
      pixel detect gdrive/raw/Exports/sessions.jsonl
      pixel detect FILE --key gdrive/raw/Diaries/x
    """
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.conversations.inspect.explanation import explain
    from pixel_pipeline.conversations.model.source import SourceObject

    settings = get_settings()
    config = FamilyConfig.load(settings.families_file)
    subject = _open(file, settings)
    with closing(subject.stream):
        key = key or subject.key
        rule = config.classify(key)
        source = SourceObject(
            bucket=settings.bucket,
            key=key,
            etag=subject.etag,
            size=subject.size,
            family=rule.family,
            category=rule.category,
            dataset=rule.dataset,
            options=rule.options,
        )
        explanation = explain(source, subject.stream)
    if as_json:
        print_json(
            {
                "file": subject.name,
                "bytes": subject.size,
                "key": key,
                "rule": {"number": config.rule_number(key), "place": rule.place}
                | {"options": asdict(rule.options)},
                **explanation.to_json(),
            }
        )
        return
    _show(subject, explanation, key=key, rule=rule, config=config)


def _open(name: str, settings: Settings) -> _Subject:
    from pixel_pipeline.lake import keys
    from pixel_pipeline.lake.loader.loader import S3DatasetLoader
    from pixel_pipeline.lake.loader.resolution import local_path

    if Path(name).expanduser().is_dir():
        raise PixelError(f"{name} is a folder.", hint="Name one of its files.")
    local = local_path(name)
    if local is not None and local.path is not None:
        path = local.path
        key = f"{keys.ACQUIRED}/{path.name}"
        return _Subject(str(path), key, "", path.stat().st_size, path.open("rb"), local=True)
    loader = S3DatasetLoader()
    location = loader.locate(name)
    if location.info is None:
        raise PixelError(
            f"{location.uri} is a table of converted conversations, not a raw object.",
            hint="Name an object in the raw tier.",
        )
    bucket = loader.bucket_of(location)
    stream = bucket.open(location.key, etag=location.info.etag)
    return _Subject(location.uri, location.key, location.info.etag, location.info.size, stream, local=False)


def _show(
    subject: _Subject, found: "Explanation", *, key: str, rule: "FamilyRule", config: "FamilyConfig"
) -> None:
    out.print(
        Text(printable(subject.name), style="bold"), Text(decimal(subject.size), style="dim"), soft_wrap=True
    )
    detection = found.detection
    kinds = [("container", detection["container"], detection["container_why"])]
    if detection["encoding_why"]:
        kinds.append(("encoding", detection["encoding"], detection["encoding_why"]))
    for title, rows in (
        ("is", kinds + _formats(found)),
        ("could be", _runners_up(found)),
        ("is not", _refused(found)),
        ("members", [(name, container) for name, container in found.members[:MAX_SHOWN]]),
        ("records", [(f"{n:,} ×", shape) for n, shape in found.shapes[:MAX_SHOWN]]),
        ("speakers", _speakers(found)),
        ("becomes", _outcome(found)),
        ("repaired", [(f"{n:,}", kind) for kind, n in found.repaired.items()]),
        ("goes to", _rule(rule, subject=subject, key=key, config=config)),
    ):
        _section(title, rows)
    if found.records and found.converted < found.records / 2 and not found.dropped:
        out.print(
            "\nMost of its records are not recognised. If the detection is wrong, override it by a rule in families.yaml: "
            "`read: {container: …, encoding: …, format: …}`.",
            markup=False,
        )


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=8, style="dim")
    for _ in range(len(rows[0]) - 1):
        grid.add_column(style="bold", overflow="fold")
    grid.add_column(overflow="fold")
    grid.add_row()
    for number, row in enumerate(rows):
        grid.add_row("" if number else title, *(Text(printable(cell)) for cell in row))
    out.print(grid)


def _formats(found: "Explanation") -> list[tuple[str, str, str]]:
    detection = found.detection
    votes: dict[str, int] = detection["votes"]
    sample = detection["sample"]
    if not sample:
        return []
    others = ("unrecognised", "unreadable")
    records = f"{'' if found.complete else 'the first '}{counted(sample, 'record')}"
    rows: list[tuple[str, str, str]] = []
    for name in sorted(votes, key=lambda name: (name in others, -votes[name], name)):
        share = f"{votes[name]:,} of {records}, {votes[name] / sample:.0%}"
        rows.append(("" if rows else "format", name, share))
    if detection["mixed"]:
        rows.append(("", "mixed", "each record is read in its own format"))
    return rows


def _runners_up(found: "Explanation") -> list[tuple[str, str]]:
    rows = [
        (candidate.name, f"{candidate.why}; {found.detection['container']} takes precedence")
        for candidate in found.candidates
        if candidate.matches and not candidate.chosen and candidate is not found.candidates[-1]
    ]
    for score in found.formats:
        if missed := score.matches - score.votes:
            first = " and ".join(score.before)
            rows.append((score.name, f"{counted(missed, 'record')} match it too; {first} takes precedence"))
    return rows


def _refused(found: "Explanation") -> list[tuple[str, str]]:
    return [(candidate.name, candidate.why) for candidate in found.candidates if not candidate.matches]


def _speakers(found: "Explanation") -> list[tuple[str, ...]]:
    spelled = [f"{name} {n:,}" for name, n in found.speakers.items()]
    if found.unnamed_speakers:
        spelled.append(f"{found.unnamed_speakers:,} with unknown spellings, not shown")
    return [(", ".join(spelled),)] if spelled else []


def _outcome(found: "Explanation") -> list[tuple[str, str]]:
    rows = []
    if found.converted:
        least, middle, most = found.turns
        turns = (
            counted(int(least), "turn")
            if least == most
            else f"{least:,} to {most:,} turns, median {middle:,g}"
        )
        roles = ", ".join(f"{role} {n:,}" for role, n in found.roles.items())
        noun = "conversation" if found.converted == 1 else "conversations"
        rows.append((f"{found.converted:,}", f"{noun} of {turns}: {roles}"))
    if found.reasoning:
        rows.append((f"{found.reasoning:,}", "of them with separate reasoning"))
    rows += [(f"{n:,}", f"of them tagged {tag}") for tag, n in found.tags.items()]
    for error_class, errors in found.quarantined.items():
        reasons = [f"{reason} ({n:,} ×)" if n > 1 else reason for reason, n in errors["reasons"].items()]
        rows.append((f"{errors['records']:,}", f"quarantined, {error_class}: {'; '.join(reasons)}"))
    rows += [(f"{n:,}", f"dropped, {reason}") for reason, n in found.dropped.items()]
    return rows


def _rule(
    rule: "FamilyRule", *, subject: _Subject, key: str, config: "FamilyConfig"
) -> list[tuple[str, ...]]:
    number = config.rule_number(key)
    why = (
        f"rule {number} of families.yaml matches"
        if number
        else "by its folder: no rule of families.yaml matches"
    )
    rows: list[tuple[str, ...]] = [(f"{rule.category}/{rule.dataset}", f"family {rule.family}, {why} {key}")]
    default = type(rule.options)()
    rows += [
        (name, f"{value}, set by the rule")
        for name, value in asdict(rule.options).items()
        if value != getattr(default, name)
    ]
    if subject.local and key == subject.key:
        rows.append(("", "the key that `pixel ingest` would give it; try another one with --key"))
    return rows
