"""What must hold for any bytes: nothing crashes, no record is lost, and the same bytes give the same tables."""

import csv
import gzip
import io
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pixel_pipeline_tests.conversations.containers.packed.test_archives import tarred, zipped
from pixel_pipeline_tests.conversations.converted import convert
from pixel_pipeline_tests.examples import examples

texts = st.text(max_size=30)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | texts
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=8
)
roles = (
    st.sampled_from(
        ["user", "assistant", "system", "human", "gpt", "Therapist", "client", "tool", "stranger"]
    )
    | scalars
)
contents = texts | values


def _turns(role: str, content: str) -> st.SearchStrategy[Any]:
    turn = st.fixed_dictionaries({role: roles, content: contents}, optional={"extra": values}) | values
    return st.lists(turn, max_size=6)


def _fields(*names: str, optional: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(dict.fromkeys(names, contents), optional=optional or {"more": values})


history = st.lists(st.lists(texts, max_size=3) | _fields("query", "response"), max_size=3)
tagged = st.lists(
    st.tuples(
        st.sampled_from(["Therapist: ", "Client: ", "来访者：", "Mum: ", "(", "", "Note: "]), texts
    ).map("".join),
    max_size=6,
)
marked = st.lists(
    st.sampled_from(["<|im_start|>user", "<|im_start|>assistant", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "### Instruction:",
                     "### Response:", "<|user|>", "<|assistant|>", "\n\nHuman: ", "\n\nAssistant: ", "</s>", "\n", "<think>", "</think>", "[00:01] "]) | texts,
    max_size=8,
).map("".join)  # fmt: skip


def _nested(text: str, author: str) -> st.SearchStrategy[Any]:
    def message(replies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries(
            {text: contents, author: roles, "replies": st.lists(replies, max_size=2)},
            optional={"score": scalars, "rank": scalars, "deleted": scalars},
        )

    return st.recursive(message(values), message, max_leaves=4)


records = st.one_of(
    st.fixed_dictionaries({"messages": _turns("role", "content")}, optional={"system": contents}),
    st.fixed_dictionaries({"conversations": _turns("from", "value")}),
    st.fixed_dictionaries({"conversation": st.lists(_fields("system", "input", "output"), max_size=3)}),
    st.fixed_dictionaries({"messages": st.lists(_fields("message"), max_size=4)}),
    _fields("instruction", "input", "output", optional={"history": history}),
    _fields("Question", "Complex_CoT", "Response"),
    _fields("query", "response", optional={"history": history}),
    st.fixed_dictionaries({"dialogue": tagged.map("\n".join)}),
    tagged,
    _turns("role", "content"),
    st.fixed_dictionaries({"sessions": st.lists(_turns("role", "content"), max_size=3)}),
    st.fixed_dictionaries({"messages": st.lists(_turns("sender", "text"), max_size=3)}),
    st.fixed_dictionaries(
        {
            "prompt": contents | _turns("role", "content"),
            "chosen": contents | _turns("role", "content"),
            "rejected": contents,
        }
    ),
    _fields("prompt", "answer1", "answer2", optional={"winner": scalars}),
    st.fixed_dictionaries(
        {
            "title": contents,
            "selftext": contents,
            "comments": st.lists(_nested("body", "author"), max_size=3),
        },
        optional={"author": roles},
    ),
    st.fixed_dictionaries({"prompt": _nested("text", "role")}),
    _nested("text", "role"),
    st.fixed_dictionaries({"id": scalars, "parent_id": scalars, "role": roles, "text": contents}),
    st.fixed_dictionaries({"dialogue_id": scalars, "turn": scalars, "speaker": roles, "utterance": contents}),
    st.fixed_dictionaries({"text": marked}),
    st.fixed_dictionaries(
        {"instruction": texts, "instances": st.lists(_fields("input", "output"), max_size=2)}
    ),
    values,
)


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        piece = draw(
            st.sampled_from([b"", b'"', b"\n", b"\x00", b"\xff", b"{", b"]", b",", b"\\", b"\r"])
            | st.binary(max_size=4)
        )
        data = data[:at] + piece + data[at + draw(st.integers(0, 5)) :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 4)) == 0 else data


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    found = draw(st.lists(records, max_size=6))
    kind = draw(
        st.sampled_from(
            ["lines", "array", "object", "csv", "text", "parquet", "yaml", "zip", "tar", "subtitles"]
        )
    )
    if kind == "lines":
        data = b"\n".join(map(_json, found))
    elif kind == "array":
        data = _json(found)
    elif kind == "object":
        data = _json({f"id{n}": record for n, record in enumerate(found)})
    elif kind == "csv":
        table = io.StringIO()
        writer = csv.writer(table, delimiter=draw(st.sampled_from(",;\t|")))
        names = draw(st.sampled_from([("Context", "Response"), ("id", "dialogue"), ("a", "b")]))
        cells = texts | tagged.map("\n".join)
        writer.writerows([names, *draw(st.lists(st.tuples(cells, cells), max_size=6))])
        data = table.getvalue().encode()
    elif kind == "yaml":
        data = yaml.safe_dump({"conversations": found}, allow_unicode=True).encode("utf-8", "replace")
    elif kind == "zip":
        data = zipped({f"{n}.json": _json(record) for n, record in enumerate(found)})
    elif kind == "tar":
        data = tarred({f"{n}.json": _json(record) for n, record in enumerate(found)})
    elif kind == "subtitles":
        cues = draw(st.lists(tagged.map("\n".join), max_size=4))
        data = "\n\n".join(["WEBVTT", *(f"00:01.000 --> 00:02.000\n{cue}" for cue in cues)]).encode()
    elif kind == "text":
        data = "\n".join(draw(tagged)).encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    else:
        sink = io.BytesIO()
        pq.write_table(
            pa.table({"prompt": draw(st.lists(texts, min_size=3, max_size=3)), "response": ["x", None, "y"]}),
            sink,
        )
        data = sink.getvalue()
    data = draw(mutated(data))
    return draw(mutated(gzip.compress(data, mtime=0))) if draw(st.integers(0, 4)) == 0 else data


def _check(data: bytes, key: str) -> None:
    first, second = convert(data, key), convert(data, key)
    assert first.conversations.equals(second.conversations)
    assert first.quarantine.equals(second.quarantine)
    assert first.ledger == second.ledger
    if data.strip():
        assert first.ledger.records_in or first.ledger.container in (
            "json_array",
            "json_document",
            "csv_table",
            "json_lines",
            "parquet_table",
            "yaml_document",
            "zip",
            "tar",
        )


@given(
    st.binary(max_size=300),
    st.sampled_from(["x.json", "x.jsonl", "x.csv", "x.txt", "x.parquet", "x.gz", "x"]),
)
def test_arbitrary_bytes(data: bytes, name: str) -> None:
    _check(data, f"gdrive/raw/F/{name}")


@given(st.text("abTherapistCln:,;|\t\n\r\"'{}[]()é来\x00 ", max_size=200))
def test_arbitrary_text(text: str) -> None:
    _check(text.encode(), "acquired/F/x.csv")


@examples(80)
@given(objects(), st.sampled_from(["x.json", "x.csv", "x.txt"]))
def test_structured_then_mutated(data: bytes, name: str) -> None:
    _check(data, f"gdrive/raw/F/{name}")


@given(st.lists(records, min_size=2, max_size=8))
def test_each_json_line_is_counted(found: list[Any]) -> None:
    # Messages of one thread become one record.
    assume(
        not any(isinstance(record, dict) and record.keys() & {"parent_id", "dialogue_id"} for record in found)
    )
    got = convert(b"\n".join(map(_json, found)))
    if got.ledger.container == "json_lines":
        positions = {row["source"]["position"] for row in got.rows} | {row["position"] for row in got.bad}
        empty_bundles = sum(isinstance(record, dict) and record.get("sessions") == [] for record in found)
        assert len(found) - empty_bundles <= len(positions) <= got.ledger.records_in


@pytest.mark.parametrize("quote", ['"', ""])
def test_hostile_shapes_end_soon(quote: str) -> None:
    assert convert(b"[" * 200_000).ledger.quarantined == 1
    assert convert(b'{"a":' * 2000 + b"1" + b"}" * 2000).ledger.quarantined == 1
    assert convert(b'{"prompt":"a","response":"b","x":' + b"[" * 600 + b"]" * 600 + b"}").error_classes == [
        "nesting_too_deep"
    ]
    wide = ",".join(f"c{n}" for n in range(100_000)) + "\n" + ",".join(["1"] * 100_000) + "\n"
    assert convert(wide.encode(), "gdrive/raw/F/x.csv").error_classes == ["unrecognised_schema"]
    stray = ("a,b\n" + "1,2\n" * 60 + f'a{quote}b,"\n' * 20_000).encode()
    got = convert(stray, "gdrive/raw/F/x.csv")
    assert got.ledger.records_in == (20_060 if quote else 10_060)
    assert convert(b"\n" * 500_000).ledger.dropped == {"not_a_dataset": 1}
