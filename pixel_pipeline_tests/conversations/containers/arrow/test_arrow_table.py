"""arrow_table: files and streams of Arrow; damage ends in quarantine, never in foreign memory."""

from collections.abc import Callable
import io

from hypothesis import given
from hypothesis import strategies as st
import pyarrow as pa
from pyarrow import feather
import pytest

from pixel_pipeline_tests.conversations.converted import convert
from pixel_pipeline_tests.examples import examples

TABLE = pa.table({"prompt": [f"q{n}" for n in range(1200)], "response": ["a"] * 1200})


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return sink.getvalue()


def file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def packed(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(table, sink, compression="zstd")
    return sink.getvalue()


@pytest.mark.parametrize("write", [stream, file, packed])
def test_rows(write: Callable[[pa.Table], bytes]) -> None:
    got = convert(write(TABLE))
    assert (got.ledger.container, got.ledger.records_out) == ("arrow_table", 1200)
    assert [row["source"]["position"] for row in got.rows] == list(range(1200))


def test_a_stream_cut_off_keeps_the_rows_before() -> None:
    data = stream(TABLE)
    got = convert(data[: len(data) * 3 // 4])
    assert (got.ledger.records_out, got.error_classes) == (700, ["corrupt_arrow"])


SMALL = TABLE.slice(0, 5)


@examples(50)
@given(
    st.sampled_from([stream(SMALL), file(SMALL)]),
    st.lists(st.tuples(st.integers(8, 900), st.binary(min_size=1, max_size=4)), max_size=4),
)
def test_damage_is_quarantined(data: bytes, changes: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(data)
    for at, piece in changes:
        damaged[at % len(data) : at % len(data) + len(piece)] = piece
    convert(bytes(damaged))
