"""Tables as the UI shows them: every column with its type and description."""

from collections.abc import Mapping

import dagster as dg
import pyarrow as pa
import pyarrow.types as t

CONVERSATION_COLUMNS = {
    "id": "32 hex digits, a hash of the raw key and the record's place in it. Stable when the same object is uploaded again.",
    "messages": "Turns in order, each with `role` (system, user, assistant, tool) and `content`. Contents are never blank, a system turn "
    "comes first, and neighbouring turns differ in role.",
    "category": "Category of the family, as a slug.",
    "family": "Dataset family, as a slug. It is the partition key.",
    "dataset": "Name of the dataset, as a slug.",
    "source": "Origin of the record: `bucket`, `key` and `etag` of the raw object, `position` in it and its unit `position_kind`, `format`, "
    "and `member` of an archive or workbook.",
    "content_hash": "32 hex digits, a hash of roles and contents after Unicode normalization. Equal conversations have equal hashes.",
    "language": "BCP 47 tag in lower case; null unless the source states it.",
    "tags": "Tags such as `preference`. Often empty.",
    "reasoning": "Chain of thought, if the source has one separate from the answer.",
    "metadata": "JSON object with the source's remaining fields; `{}` if there are none.",
    "part": "The conversion task that wrote the row.",
}
CURATED_COLUMNS = {**CONVERSATION_COLUMNS, "split": "`train`, `validation` or `test`."}
INVENTORY_COLUMNS = {
    "key": "Key of the raw object in the data bucket.",
    "size": "Size in bytes.",
    "etag": "ETag of the current version, without quotes.",
    "last_modified": "Time of the last write, UTC.",
}
SYNC_REPORT_COLUMNS = {
    "path": "Path of the file below the source.",
    "action": "`copied` (new), `replaced` (changed), `unchanged`, `kept` (in raw, no longer in the source), `skipped` (not a file), "
    "`failed` (did not arrive) or `unverified` (arrived, but differs).",
    "size": "Size in bytes; null if unknown.",
    "reason": "Reason of a failure; otherwise null.",
    "at": "End of the sync, UTC.",
}


def column_schema(schema: pa.Schema, descriptions: Mapping[str, str | None]) -> dg.TableSchema:
    """An Arrow schema as the UI's table of columns.

    Args:
        descriptions: By column name.
    """
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=short_type(field.type),
                description=descriptions.get(field.name),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def described_like(schema: pa.Schema, defined: object) -> dg.TableSchema:
    """The schema of a stored table, with the descriptions of the asset's definition (its `dagster/column_schema`, if any)."""
    known = getattr(defined, "value", defined)
    columns = known.columns if isinstance(known, dg.TableSchema) else []
    return column_schema(schema, {column.name: column.description for column in columns})


def short_type(kind: pa.DataType) -> str:
    """A type without the fields of its structs: `list<struct>`."""
    if t.is_struct(kind):
        return "struct"
    return f"list<{short_type(kind.value_type)}>" if t.is_list(kind) else str(kind)
