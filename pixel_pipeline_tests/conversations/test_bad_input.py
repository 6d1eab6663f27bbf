"""One bad record costs itself alone, and a file that is cut off costs what is cut off."""

from collections.abc import Callable
import gzip
import io
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixel_pipeline_tests.conversations.containers.packed.test_archives import tarred, zipped
from pixel_pipeline_tests.conversations.converted import convert
from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.fuzz.target import bounded

Said = tuple[str, str]
# A text that lost its end opens the next one: brackets and commas in that would be taken for what they look like.
_words = st.text("abc é来😀\"';:\\", min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
saids = st.lists(st.tuples(_words, _words), min_size=2, max_size=6)


class Kind(NamedTuple):
    """One kind of file: how it begins, what stands between records, how it ends; how a record is written; bad ones."""

    name: str
    begin: bytes
    between: bytes
    end: bytes
    write: Callable[[int, Said], bytes]
    bad: tuple[bytes, ...]


def _json(number: int, said: Said) -> bytes:
    return orjson.dumps({"prompt": said[0], "response": said[1]})


def _member(number: int, said: Said) -> bytes:
    return b'"k%d": %b' % (number, _json(number, said))


def _cell(text: str) -> bytes:
    return b'"' + text.replace('"', '""').encode() + b'"'


BAD_JSON = (
    b"{", b"}", b'{"prompt"', b'{"prompt": "a', b'{"prompt": "a", "response": }', b'{"prompt": "a" "response": "b"}', b"nul", b'"', b"\xff", b"\0",
    b'{"prompt": "\xff", "response": "b"}', b'{"prompt": "a", "response": [1}', b"[" * 300, b"{" * 300, b'{"a":' * 300, b'{"prompt": "a", "x": ' + b"[" * 2000,
    b'{"prompt": 1e99999999999999999999, "response": NaN}', b'{"prompt": "a", "prompt": 1, "response": "b"}', b'{"x": ' + b"9" * 9000 + b"}",
    b'{"prompt": "\\ud800', b"not json at all", b'{"prompt": "a", "response": "b"',
)  # fmt: skip
LINES = Kind("x.jsonl", b"", b"\n", b"\n", _json, BAD_JSON)
# Damage that only ends at the end of everything cannot be told from it; a bracket too many ends the array.
ARRAY = Kind("x.json", b"[\n", b",\n", b"\n]", _json, BAD_JSON)
SESSIONS = Kind("x.json", b'{"version": 1, "data": [\n', b",\n", b"\n]}", _json, BAD_JSON)
MEMBERS = Kind(
    "x.json", b"{\n", b",\n", b"\n}", _member,
    (b'"x": {"prompt": "a" "response": "b"}', b'"x": nul', b'"x": {"prompt": "\xff", "response": "b"}', b'"x": {"a": {"b": ]}}', b'"x" 1'),
)  # fmt: skip
DOCUMENTS = Kind("x.json", b"", b"\n", b"\n", lambda number, said: orjson.dumps(orjson.loads(_json(number, said)), option=orjson.OPT_INDENT_2),
                 (b"{\n", b'{\n  "prompt"', b'{\n  "prompt": "\xff"\n}', b'{\n  "x": ' + b"9" * 9000 + b"\n}"))  # fmt: skip
TABLE = Kind(
    "x.csv", b"prompt,response\n", b"\n", b"\n", lambda number, said: _cell(said[0]) + b"," + _cell(said[1]),
    (b"a", b"a,b,c", b'"a', b'a,"b', b'"a"b,c', b'"a""', b"\xff,b", b"\xff\xfe\xfd,\xff", b'",",,","', b'""","', b'a"b,c"d,e'),
)  # fmt: skip


@pytest.mark.parametrize("kind", [LINES, ARRAY, SESSIONS, MEMBERS, DOCUMENTS, TABLE], ids=["lines", "array", "sessions", "members", "documents", "table"])  # fmt: skip
@examples(30)
@given(saids=saids, data=st.data())
def test_one_bad_record_costs_itself_alone(kind: Kind, saids: list[Said], data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(saids)))
    records = [kind.write(number, said) for number, said in enumerate(saids)]
    records.insert(place, data.draw(st.sampled_from(kind.bad)))
    got = convert(kind.begin + kind.between.join(records) + kind.end, f"gdrive/raw/F/{kind.name}")
    found = [tuple(text for _, text in talk) for talk in got.messages]
    expected = [tuple(map(_cleaned, said)) for said in saids]
    assert [said for said in found if said in expected] == expected
    assert len(found) <= len(expected) + 1


@pytest.mark.parametrize("kind", [LINES, ARRAY, SESSIONS, TABLE], ids=["lines", "array", "sessions", "table"])
@pytest.mark.parametrize("packed", [False, True])
@examples(30)
@given(saids=saids, data=st.data())
def test_a_file_cut_off_costs_what_is_cut_off(
    kind: Kind, packed: bool, saids: list[Said], data: st.DataObject
) -> None:
    records = [kind.write(number, said) for number, said in enumerate(saids)]
    whole = kind.begin + kind.between.join(records) + kind.end
    cut = data.draw(
        st.integers(len(kind.begin) + len(records[0]) + len(kind.between) + len(records[1]) + 1, len(whole))
    )
    given_bytes = gzip.compress(whole[:cut]) if packed else whole[:cut]
    got = convert(given_bytes, f"gdrive/raw/F/{kind.name}")
    complete = sum(
        len(kind.begin + kind.between.join(records[: number + 1])) <= cut for number in range(len(records))
    )
    found = [tuple(text for _, text in talk) for talk in got.messages]
    assert found[:complete] == [tuple(map(_cleaned, said)) for said in saids[:complete]]


@examples(30)
@given(saids=saids, data=st.data())
def test_an_archive_with_a_bad_member(saids: list[Said], data: st.DataObject) -> None:
    bad = data.draw(
        st.sampled_from(
            [*BAD_JSON, b"PK\x03\x04", b"\x1f\x8b\x08", b"PAR1" + b"x" * 40 + b"PAR1", b"ARROW1\0\0"]
        )
    )
    members = {f"{number}.json": _json(number, said) for number, said in enumerate(saids)}
    members[data.draw(st.sampled_from(["bad.json", "../../bad", "/etc/passwd", "0.json/bad"]))] = bad
    for packed in (zipped(members), tarred(members), gzip.compress(tarred(members))):
        got = convert(packed)
        assert len(got.messages) >= len(saids)


@examples(30)
@given(at=st.integers(1, 400), change=st.binary(min_size=1, max_size=8), rows=st.integers(1, 3000))
def test_a_parquet_footer_that_lies(at: int, change: bytes, rows: int) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["a"] * rows, "response": ["b"] * rows}), sink, row_group_size=500)
    data = sink.getvalue()
    place = max(0, len(data) - at)
    with bounded():
        convert(data[:place] + change + data[place + len(change) :], "gdrive/raw/F/x.parquet")


def _cleaned(text: str) -> str:
    return text
