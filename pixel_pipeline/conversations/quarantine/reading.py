"""Reads the quarantine: counts, lists of records, and the bytes of one record."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import xxhash

from pixel_pipeline.conversations.convert.refused import REST
from pixel_pipeline.conversations.families.config import glob_pattern
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table

# All columns except raw_bytes, which is read for one record at a time.
_COLUMNS = ["family", "source_key", "etag", "member", "position_kind", "position", "error_class", "reason"]
_COLUMNS += ["raw_size", "records", "code_version"]


class QuarantineError(PixelError):
    """The requested record does not exist, is ambiguous, or has no bytes in the quarantine."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects quarantined records; None selects all.

    Attributes:
        key: Glob over raw keys, as in families.yaml: `*` stays within a folder, `**` crosses folders.
    """

    family: str | None = None
    error_class: str | None = None
    key: str | None = None

    def expression(self) -> ds.Expression | None:
        """Return the filter for the quarantine table; None if everything is selected."""
        filters = []
        if self.family is not None:
            filters.append(ds.field("family") == self.family)
        if self.error_class is not None:
            filters.append(ds.field("error_class") == self.error_class)
        if self.key is not None:
            pattern = rf"\A(?:{glob_pattern(self.key)})\z"
            filters.append(pc.match_substring_regex(ds.field("source_key"), pattern))
        return reduce(and_, filters) if filters else None


@dataclass(frozen=True, slots=True)
class Count:
    """Number of records of one object with one error class."""

    family: str
    source_key: str
    error_class: str
    records: int


@dataclass(frozen=True, slots=True)
class QuarantinedRecord:
    """One row of the quarantine, without its bytes.

    Attributes:
        id: 16 hex digits; stable while the record keeps its position and error class.
        ordinal: Index among rows with the same place and error class, such as several bad sessions of one record.
        position, position_kind, member, raw_size: As in QUARANTINE_SCHEMA.
        records: Number of records the row stands for; more than one if the object exceeded its error budget.
    """

    id: str
    ordinal: int
    family: str
    source_key: str
    etag: str
    member: str | None
    position_kind: str
    position: int
    error_class: str
    reason: str
    raw_size: int
    records: int
    code_version: str


def counts(lake: Lake, selection: Selection) -> list[Count]:
    """Count the selected records by family, object and error class, in that order."""
    rows = _read(lake, selection.expression(), ["family", "source_key", "error_class", "records"])
    groups = rows.group_by(["family", "source_key", "error_class"]).aggregate([("records", "sum")])
    groups = groups.sort_by([(name, "ascending") for name in ("family", "source_key", "error_class")])
    return [
        Count(row["family"], row["source_key"], row["error_class"], row["records_sum"])
        for row in groups.to_pylist()
    ]


def records(
    lake: Lake, selection: Selection, *, limit: int | None = None
) -> tuple[list[QuarantinedRecord], int]:
    """Return the selected records in the order of the table, and their number without the limit."""
    rows = _read(lake, selection.expression(), _COLUMNS)
    return _described(rows.slice(0, limit)), rows.num_rows


def find(
    lake: Lake, name: str, *, position: int | None = None, member: str | None = None
) -> QuarantinedRecord:
    """Find one record.

    Args:
        name: Its id or a unique prefix, or the key of its object, with position and member if the object has several
            quarantined records.

    Raises:
        QuarantineError: No record or several records match.
    """
    rows = _read(lake, ds.field("source_key") == name, _COLUMNS)
    found = _described(rows) or [
        record for record in _described(_read(lake, None, _COLUMNS)) if record.id.startswith(name)
    ]
    found = [
        record for record in found if position in (None, record.position) and member in (None, record.member)
    ]
    if not found:
        raise QuarantineError(
            f"No quarantined record matches {name!r}.",
            hint="List the ids with `pixel quarantine list --records`.",
        )
    if len(found) > 1:
        raise QuarantineError(
            f"{len(found):,} quarantined records match {name!r}.",
            hint="Give the id of one (`pixel quarantine list --records`), or its --position and --member.",
        )
    return found[0]


def raw_bytes(lake: Lake, record: QuarantinedRecord) -> bytes:
    """Return the stored bytes of a record: conversation text. They may be only the first of `raw_size`.

    Raises:
        QuarantineError: No bytes are stored, because the row stands for a whole object or many records.
    """
    same = [
        ds.field(name) == getattr(record, name)
        for name in ("family", "source_key", "position_kind", "position", "error_class")
    ]
    same.append(
        ds.field("member").is_null() if record.member is None else ds.field("member") == record.member
    )
    kept: bytes | None = _read(lake, reduce(and_, same), ["raw_bytes"])["raw_bytes"][record.ordinal].as_py()
    if kept is None:
        what = "many records" if record.position_kind == REST else "a whole object"
        raise QuarantineError(
            f"The quarantine has no bytes for {record.id}: it stands for {what}.",
            hint=f"Read them from {lake.data.uri(record.source_key)}.",
        )
    return kept


def _read(lake: Lake, filter: ds.Expression | None, columns: list[str]) -> pa.Table:
    table = Table(lake, keys.QUARANTINE)
    if not table.exists():
        raise QuarantineError(
            "There is no quarantine yet: nothing was converted.",
            hint="Run `dagster job execute -j prepare_data`.",
        )
    dataset = table.dataset()
    present = [name for name in columns if name in dataset.schema.names]
    rows = table.scan(dataset, columns=present, filter=filter)
    if "records" not in columns:
        return rows
    # Tables of older versions have no column `records`: each row stands for one.
    one = pa.nulls(rows.num_rows, pa.int64()) if "records" not in present else rows["records"]
    return rows.select([name for name in present if name != "records"]).append_column(
        "records", pc.fill_null(one, 1)
    )


def _described(rows: pa.Table) -> list[QuarantinedRecord]:
    seen: Counter[str] = Counter()
    described = []
    for row in rows.to_pylist():
        place = _place(row)
        ordinal = seen[place]
        seen[place] += 1
        digest = xxhash.xxh3_64_hexdigest(f"{place}#{ordinal}".encode("utf-8", "surrogatepass"))
        described.append(QuarantinedRecord(id=digest, ordinal=ordinal, **row))
    return described


def _place(row: Mapping[str, Any]) -> str:
    return "\0".join(
        str(row[name]) for name in ("source_key", "member", "position_kind", "position", "error_class")
    )
