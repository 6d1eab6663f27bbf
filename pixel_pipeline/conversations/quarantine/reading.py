"""What lies in the quarantine: counted, looked through, and one record at a time with its bytes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
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

# All but the raw bytes, which are read for one record alone.
_COLUMNS = ["family", "source_key", "etag", "member", "position_kind", "position", "error_class", "reason"]
_COLUMNS += ["raw_size", "records", "code_version"]


class QuarantineError(PixelError):
    """A record that is asked for is not in the quarantine, is not the only one, or has no bytes there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are meant; None leaves a question open.

    Attributes:
        key: Glob over raw keys, as in families.yaml: `*` stays within a folder, `**` crosses folders.
    """

    family: str | None = None
    error_class: str | None = None
    key: str | None = None

    def expression(self) -> ds.Expression | None:
        """Returns it as a filter of the quarantine; None where everything is meant."""
        asked = []
        if self.family is not None:
            asked.append(ds.field("family") == self.family)
        if self.error_class is not None:
            asked.append(ds.field("error_class") == self.error_class)
        if self.key is not None:
            pattern = rf"\A(?:{glob_pattern(self.key)})\z"
            asked.append(pc.match_substring_regex(ds.field("source_key"), pattern))
        return reduce(and_, asked) if asked else None

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Returns which rows of the quarantine are meant, whatever their family."""
        anywhere = replace(self, family=None).expression()
        if anywhere is None:
            return pa.chunked_array([pa.repeat(True, rows.num_rows)])
        meant = ds.dataset(rows).to_table(columns={"meant": anywhere})["meant"]
        return meant


@dataclass(frozen=True, slots=True)
class Count:
    """Records of one object that have one error class."""

    family: str
    source_key: str
    error_class: str
    records: int


@dataclass(frozen=True, slots=True)
class QuarantinedRecord:
    """One row of the quarantine, without its bytes.

    Attributes:
        id: 16 hex digits, the same for as long as the record stands where it stands and is refused for the same.
        ordinal: Its place among rows that differ in nothing else that identifies it, as bad sessions of one record do.
        position, position_kind, member, raw_size: As in QUARANTINE_SCHEMA.
        records: How many records the row stands for: more than one where the object was beyond its error budget.
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


def counts(lake: Lake, wanted: Wanted) -> list[Count]:
    """Returns what is quarantined, by family, object and error class, in that order."""
    rows = _read(lake, wanted.expression(), ["family", "source_key", "error_class", "records"])
    groups = rows.group_by(["family", "source_key", "error_class"]).aggregate([("records", "sum")])
    groups = groups.sort_by([(name, "ascending") for name in ("family", "source_key", "error_class")])
    return [
        Count(row["family"], row["source_key"], row["error_class"], row["records_sum"])
        for row in groups.to_pylist()
    ]


def records(lake: Lake, wanted: Wanted, *, limit: int | None = None) -> tuple[list[QuarantinedRecord], int]:
    """Returns the rows asked for, in the order of the table, and how many there are without the limit."""
    rows = _read(lake, wanted.expression(), _COLUMNS)
    return _described(rows.slice(0, limit)), rows.num_rows


def find(
    lake: Lake, name: str, *, position: int | None = None, member: str | None = None
) -> QuarantinedRecord:
    """Returns the one record of a name.

    Args:
        name: Its id, or enough of the id's beginning; or the key of its object, with position and member where
            the object has more than one bad record.

    Raises:
        QuarantineError: There is none, or there are several.
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
            f"Nothing is quarantined under {name!r}.",
            hint="`pixel quarantine list --records` shows the ids of what is.",
        )
    if len(found) > 1:
        raise QuarantineError(
            f"{len(found):,} records are quarantined under {name!r}.",
            hint="Give the id of one (`pixel quarantine list --records`), or its --position and --member.",
        )
    return found[0]


def raw_bytes(lake: Lake, record: QuarantinedRecord) -> bytes:
    """Returns the bytes that are kept of a record: conversation text. They may be only the first of `raw_size`.

    Raises:
        QuarantineError: None are kept, for they are the object's own.
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
            f"The quarantine keeps no bytes of {record.id}: it stands for {what}.",
            hint=f"They are in {lake.data.uri(record.source_key)}.",
        )
    return kept


def _read(lake: Lake, filter: ds.Expression | None, columns: list[str]) -> pa.Table:
    table = Table(lake, keys.QUARANTINE)
    if not table.exists():
        raise QuarantineError(
            "There is no quarantine yet: nothing was converted.", hint="dagster job execute -j prepare_data"
        )
    dataset = table.dataset()
    there = [name for name in columns if name in dataset.schema.names]
    rows = table.scan(dataset, columns=there, filter=filter)
    if "records" not in columns:
        return rows
    # Rows from before there were rows that stand for many.
    one = pa.nulls(rows.num_rows, pa.int64()) if "records" not in there else rows["records"]
    return rows.select([name for name in there if name != "records"]).append_column(
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
