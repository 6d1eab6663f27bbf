"""The columns a table can have: values round-trip, or the column is refused by name."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pyarrow as pa
import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.schema import SchemaMismatchError, evolved, storable
from pixel_pipeline.lake.tables.table import Table

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEPT: dict[str, pa.Array] = {
    "bool": pa.array([True, None]),
    "int8": pa.array([-1, None], pa.int8()),
    "float32": pa.array([0.5, None], pa.float32()),
    "date32": pa.array([NOW.date(), None]),
    "decimal": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
    "binary": pa.array([b"\x00\xff", None]),
    "timestamp": pa.array([NOW, None], pa.timestamp("us", "UTC")),
    "struct": pa.array([{"a": 1, "b": ["x", None]}, None]),
    "empty list": pa.array([[], None], pa.list_(pa.string())),
    # As the plain type.
    "large string": pa.array(["x", None], pa.large_string()),
    "string view": pa.array(["x", None], pa.string_view()),
    "dictionary": pa.array(["x", None]).dictionary_encode(),
    "large list": pa.array([["x"], None], pa.large_list(pa.large_string())),
    "seconds": pa.array([NOW, None], pa.timestamp("s", "UTC")),
    "another zone": pa.array([NOW, None], pa.timestamp("us", "Europe/Vienna")),
}
REFUSED = [
    pa.uint8(),
    pa.uint64(),
    pa.float16(),
    pa.null(),
    pa.time64("us"),
    pa.duration("s"),
    pa.date64(),
    pa.timestamp("ns", "UTC"),
    pa.timestamp("us"),
    pa.binary(4),
    pa.decimal256(50, 2),
    pa.list_(pa.uint8()),
    pa.list_(pa.int8(), 2),
    pa.struct([("a", pa.time32("s"))]),
    pa.struct([]),
    pa.map_(pa.string(), pa.string()),
    pa.dictionary(pa.int8(), pa.uint8()),
]


def test_every_storable_type_round_trips(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(pa.table(KEPT))
    table.append(pa.table(KEPT))
    read = table.read()
    for name, values in KEPT.items():
        assert read[name].to_pylist() == values.to_pylist() * 2, name


@pytest.mark.parametrize("kind", REFUSED, ids=str)
def test_a_type_that_cannot_be_stored_is_refused_by_name(kind: pa.DataType) -> None:
    with pytest.raises(SchemaMismatchError, match=r"Column odd has type .* cannot store\.\n") as caught:
        storable(pa.schema([("n", pa.int64()), ("odd", kind)]))
    assert str(kind) in caught.value.message


def test_column_names_are_unique() -> None:
    with pytest.raises(SchemaMismatchError, match="more than one column n"):
        storable(pa.schema([("n", pa.int64()), ("n", pa.int64())]))


NAMES = st.sampled_from("abcd")
TYPES = st.sampled_from(
    [pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.list_(pa.string())]
)
SCHEMAS = st.dictionaries(NAMES, st.tuples(TYPES, st.booleans()), max_size=4).map(
    lambda columns: storable(pa.schema([pa.field(n, t, nullable=null) for n, (t, null) in columns.items()]))
)


@given(stored=SCHEMAS, offered=SCHEMAS)
def test_evolution_only_ever_adds_nullable_columns(stored: pa.Schema, offered: pa.Schema) -> None:
    try:
        result = evolved(stored, offered)
    except SchemaMismatchError as error:
        column = error.message.split("olumn ")[1].split()[0]
        assert column in {*stored.names, *offered.names}
        return
    assert pa.schema(list(result)[: len(stored)]) == stored
    assert all(field.nullable for field in list(result)[len(stored) :])
    assert {*result.names} == {*stored.names, *offered.names}
    assert evolved(result, offered) == result
    # Every value offered fits.
    for field in offered:
        pa.array([], field.type).cast(result.field(field.name).type)


@pytest.mark.parametrize(
    ("stored", "offered", "fits"),
    [
        (pa.int64(), pa.int32(), True),
        (pa.int32(), pa.int64(), False),
        (pa.float64(), pa.float32(), True),
        (pa.float64(), pa.int8(), False),
        (pa.list_(pa.field("element", pa.string(), nullable=False)), pa.list_(pa.string()), True),
        (pa.struct([("a", pa.string())]), pa.struct([("a", pa.string()), ("b", pa.string())]), False),
        (pa.struct([("a", pa.string())]), pa.struct([("a", pa.int64())]), False),
        (pa.timestamp("us", "UTC"), pa.timestamp("s", "Asia/Tokyo"), True),
    ],
    ids=str,
)
def test_types_that_fit_each_other(stored: Any, offered: Any, fits: bool) -> None:
    old, new = (storable(pa.schema([("x", kind)])) for kind in (stored, offered))
    if fits:
        assert evolved(old, new) == old
    else:
        with pytest.raises(SchemaMismatchError, match=r"Column x is .* in this table; .* was offered"):
            evolved(old, new)
