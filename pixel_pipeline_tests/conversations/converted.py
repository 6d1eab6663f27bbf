"""Converts bytes in a test, and checks the invariants of every conversion."""

from collections.abc import Iterable
import io
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from pixel_pipeline.conversations.convert.conversion import convert_object
from pixel_pipeline.conversations.convert.ledger import LedgerEntry
from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS, ConversionOptions
from pixel_pipeline.conversations.model.records import Block, Fault, Item, Record
from pixel_pipeline.conversations.model.schema import (
    CONVERSATION_SCHEMA,
    LEDGER_SCHEMA,
    QUARANTINE_RAW_BYTES,
    QUARANTINE_SCHEMA,
)
from pixel_pipeline.conversations.model.source import SourceObject


class Converted(NamedTuple):
    conversations: pa.Table
    quarantine: pa.Table
    ledger: LedgerEntry

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.conversations.to_pylist()

    @property
    def bad(self) -> list[dict[str, Any]]:
        return self.quarantine.to_pylist()

    @property
    def messages(self) -> list[list[tuple[str, str]]]:
        return [[(m["role"], m["content"]) for m in row["messages"]] for row in self.rows]

    @property
    def error_classes(self) -> list[str]:
        return self.quarantine["error_class"].to_pylist()


def convert(
    data: bytes, key: str = "gdrive/raw/Folder/file", *, options: ConversionOptions = DEFAULT_OPTIONS
) -> Converted:
    source = SourceObject(
        bucket="b",
        key=key,
        etag="e",
        size=len(data),
        family="folder",
        category="folder",
        dataset="folder",
        options=options,
    )
    conversion = convert_object(source, io.BytesIO(data))
    batches = list(conversion)
    ledger = conversion.ledger
    good = pa.Table.from_batches([batch.conversations for batch in batches], CONVERSATION_SCHEMA)
    bad = pa.Table.from_batches([batch.quarantine for batch in batches], QUARANTINE_SCHEMA)
    for table in (good, bad):
        table.validate(full=True)
        for field in table.schema:
            assert field.nullable or table[field.name].null_count == 0, field.name
    assert ledger.records_in == ledger.records_out + ledger.quarantined + sum(ledger.dropped.values()), ledger
    assert good.num_rows == ledger.records_out
    assert sum(bad["records"].to_pylist()) == ledger.quarantined
    assert ledger.runs.records == ledger.records_in
    assert ledger.runs.longest <= ledger.quarantined
    assert sum(ledger.formats.values()) == ledger.records_out
    assert len(set(good["id"].to_pylist())) == good.num_rows
    pa.Table.from_pylist([ledger.to_row()], LEDGER_SCHEMA).validate(full=True)
    for row in good.to_pylist():
        roles = [message["role"] for message in row["messages"]]
        assert set(roles) <= {"system", "user", "assistant", "tool"}
        sides = {"user", "assistant"} & set(roles)
        assert len(sides) >= (1 if options.one_sided == "keep" else 2)
        assert options.longest is None or sum(len(m["content"]) for m in row["messages"]) <= options.longest
        assert "system" not in roles[1:]
        assert all(first != second for first, second in pairwise(roles))
        assert all(message["content"].strip() for message in row["messages"])
        assert isinstance(orjson.loads(row["metadata"]), dict)
    for row in bad.to_pylist():
        assert row["reason"]
        assert row["error_class"].isidentifier()
        assert row["raw_bytes"] is None or len(row["raw_bytes"]) <= QUARANTINE_RAW_BYTES
        assert (row["position_kind"] != "object") or row["raw_bytes"] is None
    return Converted(good, bad, ledger)


def lines(*values: Any) -> bytes:
    return b"\n".join(value if isinstance(value, bytes) else orjson.dumps(value) for value in values) + b"\n"


def sharegpt(*texts: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "gpt" if index % 2 else "human", "value": text} for index, text in enumerate(texts)]
    return {"conversations": turns, **more}


def single_records(items: Iterable[Item]) -> list[Record | Fault]:
    """The records that a container yields, one by one."""
    return [record for item in items for record in (item.records({}) if isinstance(item, Block) else (item,))]
