"""The columns a table can have, and how they may change.

Delta Lake has fewer types than Arrow. Types that convert without loss are stored as their nearest equivalent: large, view
and dictionary types as the plain type, seconds and milliseconds as microseconds, other time zones as UTC. Others are refused.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.types as t

from pixel_pipeline.errors import PixelError

# For each type, those that represent all of its values.
_WIDER = {
    pa.int8(): (pa.int16(), pa.int32(), pa.int64()),
    pa.int16(): (pa.int32(), pa.int64()),
    pa.int32(): (pa.int64(),),
    pa.float32(): (pa.float64(),),
}
_PLAIN = {pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32()}


class SchemaMismatchError(PixelError):
    """The offered columns do not fit the table, or cannot be stored."""


def storable(schema: pa.Schema) -> pa.Schema:
    """Return the schema as a table stores it. Raises SchemaMismatchError, with column and type, if it cannot."""
    fields = []
    for field in schema:
        kind = _storable(field.type)
        if kind is None:
            raise SchemaMismatchError(
                f"Column {field.name} has type {field.type}, which a Delta table cannot store.",
                hint="Cast it first: unsigned integers to int64, float16 to float32, times and durations to an integer of "
                "their unit, nanoseconds to timestamp[us], null to the intended type.",
            )
        fields.append(pa.field(field.name, kind, nullable=field.nullable))
    names = [field.name for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaMismatchError(f"There is more than one column {twice[0]}.")
    return pa.schema(fields)


def evolved(stored: pa.Schema, offered: pa.Schema) -> pa.Schema:
    """Return the table's schema after a write with another schema.

    Columns are matched by name, in any order. New nullable columns are added at the end; existing rows read null. A nullable
    column that is not offered is null in the new rows. Narrower integers and floats are widened. A nullable column may be
    offered for one that is not; a null in it fails the write.

    Args:
        stored: The table's schema.
        offered: Schema of the new rows, as `storable` returns it.

    Raises:
        SchemaMismatchError: another type, a new column that is not nullable, or a missing one that is not.
    """
    for field in stored:
        if field.name not in offered.names:
            if not field.nullable:
                raise SchemaMismatchError(
                    f"Column {field.name} ({field.type}) is missing, and is never null in this table.",
                    hint=_HINT,
                )
            continue
        kind = offered.field(field.name).type
        if not _same(kind, field.type) and field.type not in _WIDER.get(kind, ()):
            raise SchemaMismatchError(
                f"Column {field.name} is {field.type} in this table; {kind} was offered.", hint=_HINT
            )
    new = [field for field in offered if field.name not in stored.names]
    for field in new:
        if not field.nullable:
            raise SchemaMismatchError(
                f"New column {field.name} ({field.type}) is not nullable, but existing rows have no value for it.",
                hint="Declare it nullable. " + _HINT,
            )
    return pa.schema([*stored, *new])


def cast_batches(data: pa.Table | pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Cast rows to a schema, batch by batch. Raises SchemaMismatchError for values that do not fit."""
    for batch in data.to_batches() if isinstance(data, pa.Table) else data:
        try:
            yield batch.select(schema.names).cast(schema)
        except (pa.ArrowInvalid, ValueError) as error:
            broken = [field.name for field in schema if not field.nullable and batch[field.name].null_count]
            raise SchemaMismatchError(
                f"Column {broken[0]} has nulls, and is never null in this table."
                if broken
                else f"Values do not fit the table's columns ({type(error).__name__})."
            ) from None


_HINT = (
    'Offer the stored type, or rewrite the whole table with `schema="replace"` (of an asset: in its definition '
    "metadata)."
)


def _storable(kind: pa.DataType) -> pa.DataType | None:
    if kind in _PLAIN or t.is_decimal128(kind):
        return kind
    if t.is_dictionary(kind):
        return _storable(kind.value_type)
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return pa.string()
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind):
        return pa.binary()
    if t.is_timestamp(kind) and kind.unit != "ns":
        # Without a time zone it would need a table feature that other readers lack.
        return pa.timestamp("us", "UTC") if kind.tz else None
    if t.is_list(kind) or t.is_large_list(kind):
        inner = _storable(kind.value_type)
        return (
            None
            if inner is None
            else pa.list_(pa.field("element", inner, nullable=kind.value_field.nullable))
        )
    if t.is_struct(kind):
        children = [(child, _storable(child.type)) for child in kind]
        if not children or any(inner is None for _, inner in children):
            return None
        return pa.struct([pa.field(child.name, inner, nullable=child.nullable) for child, inner in children])
    return None


def _same(offered: pa.DataType, stored: pa.DataType) -> bool:
    """True for equal types; the offered one may be nullable where the stored one is not. Nulls are found when rows are cast."""
    if t.is_list(stored) and t.is_list(offered):
        return _same(offered.value_type, stored.value_type)
    if t.is_struct(stored) and t.is_struct(offered):
        return [child.name for child in offered] == [child.name for child in stored] and all(
            _same(new.type, old.type) for new, old in zip(offered, stored, strict=True)
        )
    return bool(offered == stored)
