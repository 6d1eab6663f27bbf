from collections import Counter
import io
from itertools import accumulate
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
import pytest

from pixel_pipeline.conversations.containers import streams
from pixel_pipeline.conversations.containers.container import Input, Range
from pixel_pipeline.conversations.containers.csv import csv_table
from pixel_pipeline.conversations.containers.csv.row_bounds import RowBounds
from pixel_pipeline.conversations.containers.streams import PeekableStream
from pixel_pipeline.conversations.model.records import Block, Fault, Record
from pixel_pipeline_tests.conversations.converted import convert, single_records
from pixel_pipeline_tests.examples import examples

KEY = "gdrive/raw/F/x.csv"


@pytest.mark.parametrize("delimiter", list(",;\t|"))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x.json"])
def test_delimiters_line_ends_and_names(delimiter: str, end: str, name: str) -> None:
    rows = ["Context|Response|label", 'I feel low|"Tell me, please; more"|1', "And now|Go on|2"]
    data = end.join(row.replace("|", delimiter) for row in rows).encode()
    got = convert(data, f"gdrive/raw/F/{name}")
    if delimiter == "|":
        assert got.messages[0][1] == ("assistant", "Tell me, please; more")
    assert (got.ledger.container, got.ledger.records_out) == ("csv_table", 2)
    assert [row["source"]["position"] for row in got.rows] == [data.index(b"I feel"), data.index(b"And now")]
    assert got.rows[0]["metadata"] == '{"label":"1"}'
    assert got.rows[0]["source"]["position_kind"] == "byte"


def test_cells_may_hold_line_ends_and_quotes() -> None:
    text = 'id,dialogue\r\n1,"Doctor: a ""b""\r\nPatient: c"\r\n\r\n2,"Doctor: d\nPatient: e"\r\n'
    got = convert(b"\xef\xbb\xbf" + text.encode(), KEY)
    assert got.messages[0] == [("assistant", 'a "b"'), ("user", "c")]
    assert [row["source"]["position"] for row in got.rows] == [3 + text.index("1,"), 3 + text.index("2,")]
    assert got.ledger.repaired == {"byte_order_mark": 1, "line_ends": 1}


def test_a_session_of_any_length_stays_whole() -> None:
    long = "word " * 60_000
    got = convert(f'prompt,response\na,"{long}"\n'.encode(), KEY)
    assert got.messages[0][1] == ("assistant", long)


def test_ragged_rows_are_quarantined_with_their_bytes() -> None:
    got = convert(b"prompt,response\na,b\nc\nd,e,f\ng,h,,\ni,j\n", KEY)
    assert got.ledger.records_out == 3
    assert [(row["error_class"], row["raw_bytes"], row["position"]) for row in got.bad] == [
        ("ragged_row", b"c", 20),
        ("ragged_row", b"d,e,f", 22),
    ]
    assert got.ledger.repaired == {"empty_extra_cells": 1}


def test_a_quote_never_closed_costs_its_line_only() -> None:
    rows = [f"q{n},a{n}" for n in range(50)]
    rows[20] = 'q20,"a20'
    data = ("prompt,response\n" + "\n".join(rows)).encode()
    got = convert(data, KEY)
    assert (got.ledger.records_in, got.ledger.records_out) == (50, 49)
    assert (got.error_classes, got.bad[0]["raw_bytes"], got.bad[0]["position"]) == (
        ["unclosed_quote"],
        b'q20,"a20',
        data.index(b"q20"),
    )


def test_a_quote_not_closed_before_the_next_quote_joins_no_rows() -> None:
    got = convert(b'prompt,response\na,"b\nc,"d"\ne,"f said ""g"""\nh,"i" j\nk,5" pipe\n', KEY)
    assert [turns[0][1] for turns in got.messages] == ["c", "e", "k"]
    assert [row["raw_bytes"] for row in got.bad] == [b'a,"b', b'h,"i" j']
    assert got.error_classes == ["bad_quoting"] * 2


def test_a_search_for_the_closing_quote_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LEAST_BUDGET", "_MOST_BUDGET"):
        monkeypatch.setattr(f"pixel_pipeline.conversations.containers.csv.rows.{name}", 1000)
    rows = [f"q{n},a{n}" for n in range(300)]
    rows[20], rows[280] = 'q20,"a20', 'q280,"b"'
    got = convert(("prompt,response\n" + "\n".join(rows)).encode(), KEY)
    assert (got.ledger.records_in, got.error_classes) == (300, ["unclosed_quote"])


ROWS = [b"prompt,response\n", b'a,"b\n""c"" \r\nd"\n', b"\n", b'f,"g"\n', b'h,"i\n']
LINE_ENDS = [at for at, byte in enumerate(b"".join(ROWS), 1) if byte == 0x0A]


@pytest.mark.parametrize("cut", LINE_ENDS)
def test_a_range_says_whether_it_ends_between_two_rows(cut: int) -> None:
    data = b"".join(ROWS)
    before = rows_of(data[:cut])
    records = single_records(before)
    assert before.ends_at_boundary == (cut in list(accumulate(map(len, ROWS[:-1]))))
    if before.ends_at_boundary:
        rest = rows_of(data[cut:], start=cut, header=["prompt", "response"])
        assert records + single_records(rest) == single_records(rows_of(data))


pieces = st.sampled_from(
    [
        '"',
        '""',
        ",",
        ";",
        "\n",
        "\r\n",
        "\r",
        "a",
        " ",
        "\u3000",
        '"a"',
        ',"b\nc"',
        '"d""e",',
        "\n\n",
        "\x00",
        "f,g\n",
        "\ufeff",
    ]
)


@examples(100)
@given(
    st.lists(pieces, max_size=30).map("".join), st.sampled_from([1, 5, 20, 1 << 20]), st.sampled_from(",;")
)
@example('"\r\n"', 5, ",")
def test_rows_found_many_at_a_time_are_those_found_one_by_one(text: str, block: int, delimiter: str) -> None:
    data = (
        ("prompt,response\n" if delimiter == "," else "prompt;response\n").encode()
        + text.encode()
        + b"\xff,x\n" * (len(text) % 2)
    )

    def read() -> tuple[list[Record | Fault], bool, Counter[str]]:
        repaired: Counter[str] = Counter()
        content = PeekableStream(io.BytesIO(data))
        rows = csv_table.read_rows(content, start=5, delimiter=delimiter, repaired=repaired)
        records = [
            record
            for item in rows
            for record in (item.records(repaired) if isinstance(item, Block) else [item])
        ]
        return records, rows.ends_at_boundary, repaired

    none = RowBounds(*(np.zeros(0, np.int64),) * 2, 0, True, np.zeros(0, np.bool_), np.zeros(0, np.int64))
    with mock.patch.object(streams, "BLOCK", block):
        many = read()
    with mock.patch.object(csv_table, "row_bounds", return_value=none):
        assert many == read()


def rows_of(data: bytes, *, start: int = 0, header: list[str] | None = None) -> Range:
    content = PeekableStream(io.BytesIO(data))
    return csv_table.read_rows(content, start=start, delimiter=",", repaired=Counter(), header=header)


def test_a_header_is_read_alone() -> None:
    content = PeekableStream(io.BytesIO(b'\n"prompt";response;\na;b;\n'))
    assert csv_table.read_header(Input("x.csv", content, None, 0, Counter())) == (
        ";",
        ["prompt", "response", "column_3"],
    )
    read = csv_table.read(Input("x.csv", content, None, 0, Counter()))
    assert single_records(read) == [Record(20, {"prompt": "a", "response": "b", "column_3": ""}, b"a;b;")]


def test_a_carriage_return_in_a_bare_cell_costs_its_row_only() -> None:
    got = convert(b"prompt,response\na,b\nc\rx,d\ne,f\n", KEY)
    assert (got.ledger.records_out, got.error_classes) == (2, ["bad_quoting"])


def test_lines_that_end_in_carriage_returns_alone() -> None:
    got = convert(b"prompt,response\ra,b\rc,d\r", KEY)
    assert got.ledger.records_out == 2


def test_a_western_file_and_a_bad_row() -> None:
    rows = [f"prompt {n},caf\u00e9 {n}" for n in range(9)]
    got = convert(("prompt,response\n" + "\n".join(rows)).encode("cp1252"), KEY)
    assert (got.ledger.encoding, got.messages[0][1]) == ("cp1252", ("assistant", "café 0"))
    utf8 = ("prompt,response\n" + "\n".join(rows)).encode().replace("é 4".encode(), b"\xff 4")
    got = convert(utf8, KEY)
    assert (got.ledger.encoding, got.ledger.records_out, got.error_classes) == ("utf-8", 8, ["bad_encoding"])
    assert got.bad[0]["raw_bytes"] == b"prompt 4,caf\xff 4"


def test_columns_without_or_with_the_same_name() -> None:
    got = convert(b",prompt,response,prompt\n0,a,b,c\n", KEY)
    assert got.rows[0]["metadata"] == '{"column_1":"0","prompt_2":"c"}'


@pytest.mark.parametrize(
    "text",
    [
        "Therapist: Hello, how are you\nClient: Well, not so well\nTherapist: Oh, tell me\n",
        "A line of prose, with a comma.\nAnother one without\nand a third, and more, and more\n",
        "word\nword\nword\n",
    ],
)
def test_what_is_no_table(text: str) -> None:
    assert convert(text.encode(), "gdrive/raw/F/x.txt").ledger.container == "text_document"


def test_a_table_of_something_else_is_unrecognised_by_its_columns() -> None:
    got = convert(b"f1,recall,what I said\n0.1,0.2,x\n0.3,0.4,y\n", KEY)
    assert got.error_classes == ["unrecognised_schema"] * 2
    assert got.bad[0]["reason"] == "no format matches the keys f1, recall and 1 not named here"
