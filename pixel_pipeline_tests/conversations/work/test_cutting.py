"""Ranges of a text together are the text, wherever it is cut, or say that they are not."""

from collections import Counter
import csv
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.conversations.containers.opening import open_container
from pixel_pipeline.conversations.convert.conversion import UnalignedRange, convert_object
from pixel_pipeline.conversations.convert.ledger import merged_rows
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA, QUARANTINE_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.work import plan as tasks
from pixel_pipeline.conversations.work.cutting import cut
from pixel_pipeline.conversations.work.plan import Piece
from pixel_pipeline_tests.examples import examples

# Texts that make cutting hard: quotes, separators, brackets, line ends, multi-byte letters.
said = st.text(alphabet=st.sampled_from('ab ,"\n{}[]:;\\né你'), min_size=1, max_size=30).filter(str.strip)
turns = st.lists(st.tuples(said, said), min_size=1, max_size=3)
records = st.lists(turns, min_size=2, max_size=25)


def conversation(exchanges: list[tuple[str, str]], *, odd: bool) -> dict[str, Any]:
    told = [turn for exchange in exchanges for turn in zip(("human", "gpt"), exchange, strict=True)]
    record: dict[str, Any] = {"conversations": [{"from": who, "value": what} for who, what in told]}
    # Elements of an inner list that look like elements of the outer one.
    return record | ({"conversations": [record, record]} if odd else {})


def source_of(data: bytes, name: str) -> SourceObject:
    return SourceObject(
        bucket="b",
        key=f"gdrive/raw/F/{name}",
        etag="e",
        size=len(data),
        family="f",
        category="f",
        dataset="f",
    )


def converted(data: bytes, pieces: list[Piece]) -> tuple[pa.Table, pa.Table, list[dict[str, Any]]]:
    good, bad, ledger = [], [], []
    for piece in pieces:
        stream = io.BytesIO(data[piece.start : piece.end] if piece.opening else data)
        conversion = convert_object(
            piece.source, stream, opening=piece.opening, start=piece.start, last=piece.end == len(data)
        )
        for batch in conversion:
            good.append(batch.conversations)
            bad.append(batch.quarantine)
        ledger.append(conversion.ledger.to_row())
    return (
        pa.Table.from_batches(good, CONVERSATION_SCHEMA),
        pa.Table.from_batches(bad, QUARANTINE_SCHEMA),
        merged_rows(ledger),
    )


def assert_ranges_are_the_whole(data: bytes, name: str, *, task_bytes: int, proven: bool = True) -> int:
    source = source_of(data, name)
    stream = io.BytesIO(data)
    opening = open_container(source, stream, repaired=Counter()).opening
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "TASK_BYTES", task_bytes)
        pieces = cut(source, stream, opening)
    assert [piece.start for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].end) == (0 if len(pieces) == 1 else opening.start, len(data))  # type: ignore[union-attr]
    whole = converted(data, [Piece.whole(source)])
    try:
        assert converted(data, pieces) == whole
    except UnalignedRange:
        assert not proven
    return len(pieces)


@given(records=records, odd=st.booleans(), indent=st.booleans(), task_bytes=st.integers(40, 400))
@examples(20)
def test_arrays(records: list[Any], odd: bool, indent: bool, task_bytes: int) -> None:
    values = [conversation(exchanges, odd=odd and n % 3 == 0) for n, exchanges in enumerate(records)]
    data = orjson.dumps(values, option=orjson.OPT_INDENT_2 if indent else 0)
    assert_ranges_are_the_whole(data, "a.json", task_bytes=task_bytes, proven=not odd)


@given(records=records, task_bytes=st.integers(40, 400), returns=st.booleans())
@examples(20)
def test_tables(records: list[Any], task_bytes: int, returns: bool) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\r\n" if returns else "\n")
    writer.writerows([("question", "answer"), *(exchange for turns in records for exchange in turns)])
    # A cell may look like rows throughout; then the cut is rejected and nothing is lost.
    assert_ranges_are_the_whole(sink.getvalue().encode(), "a.csv", task_bytes=task_bytes, proven=False)


@given(records=records, junk=st.binary(max_size=40), task_bytes=st.integers(40, 400), marked=st.booleans())
@examples(20)
def test_lines(records: list[Any], junk: bytes, task_bytes: int, marked: bool) -> None:
    values = [orjson.dumps(conversation(exchanges, odd=False)) for exchanges in records]
    values.insert(len(values) // 2, b'{"junk": "' + junk.replace(b"\n", b" ").replace(b"\r", b" "))
    data = (b"\xef\xbb\xbf" if marked else b"") + b"\n".join(values)
    assert_ranges_are_the_whole(data, "a.jsonl", task_bytes=task_bytes)


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.jsonl"])
def test_clean_texts_are_cut_near_the_targets(name: str) -> None:
    values = [conversation([(f"Question, {n}", 'An "answer"\nof lines')], odd=False) for n in range(200)]
    if name == "a.json":
        data = orjson.dumps(values)
    elif name == "a.jsonl":
        data = b"\n".join(map(orjson.dumps, values))
    else:
        sink = io.StringIO()
        csv.writer(sink).writerows(
            [("question", "answer"), *((f"Q, {n}", 'a, "b"\nc, d\ne, f') for n in range(200))]
        )
        data = sink.getvalue().encode()
    assert assert_ranges_are_the_whole(data, name, task_bytes=500) == round(len(data) / 500)
