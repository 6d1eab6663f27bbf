"""Workbooks and Word documents, the export formats of a Drive's sheets and documents."""

import io
from xml.sax.saxutils import escape
import zipfile

import orjson
import pytest

from pixel_pipeline.conversations.containers.packed import word_document, workbook
from pixel_pipeline_tests.conversations.containers.packed.test_archives import zipped
from pixel_pipeline_tests.conversations.converted import convert

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def excel(*sheets: list[list[str | float]]) -> bytes:
    """A workbook with sheets S1, S2 … of texts and numbers."""
    files = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r" Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><sheets>'
        + "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="r{n}"/>' for n in range(1, len(sheets) + 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        + "".join(
            f'<Relationship Id="r{n}" Type="{RELATIONS}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        + "</Relationships>",
    }
    for n, rows in enumerate(sheets, 1):
        cells = ""
        for y, row in enumerate(rows, 1):
            cells += f'<row r="{y}">'
            for x, value in enumerate(row):
                place = f"{chr(65 + x)}{y}"
                if isinstance(value, str):
                    cells += f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
                else:
                    cells += f'<c r="{place}"><v>{value}</v></c>'
            cells += "</row>"
        files[f"xl/worksheets/sheet{n}.xml"] = (
            f'<worksheet xmlns="{MAIN}"><sheetData>{cells}</sheetData></worksheet>'
        )
    return zipped({name: text.encode() for name, text in files.items()})


def word(body: str, head: str = "") -> bytes:
    xml = f'<?xml version="1.0"?>{head}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    return zipped({"[Content_Types].xml": b"<Types/>", "word/document.xml": xml.encode()})


def paragraph(*texts: str) -> str:
    return "<w:p>" + "".join(f"<w:r><w:t>{text}</w:t></w:r>" for text in texts) + "</w:p>"


def test_each_sheet_is_a_table() -> None:
    got = convert(
        excel(
            [
                ["My answers"],
                ["Question", "Answer", "rating"],
                ["a", "b", 4],
                ["c", 5, 4.5],
                ["e", "f", "g", "h"],
            ],
            [["notes"], ["nothing"]],
            [["dialogue"], ["Therapist: x\nClient: y"]],
        ),
        "gdrive/raw/F/Answers.xlsx",
    )
    assert got.ledger.container == "workbook"
    assert got.messages == [
        [("user", "a"), ("assistant", "b")], [("user", "c"), ("assistant", "5")], [("assistant", "x"), ("user", "y")],
    ]  # fmt: skip
    assert [(row["source"]["member"], row["source"]["position"]) for row in got.rows] == [
        ("S1", 0),
        ("S1", 1),
        ("S3", 0),
    ]
    assert [orjson.loads(row["metadata"]) for row in got.rows][:2] == [{"rating": "4"}, {"rating": "4.5"}]
    assert (got.error_classes, got.ledger.dropped) == (["ragged_row"], {"not_a_dataset": 1})


def test_a_workbook_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    good = excel([["Question", "Answer"], ["a", "b"]])
    broken = zipped({"xl/workbook.xml": b"<workbook", "xl/worksheets/sheet1.xml": b""})
    assert convert(broken).error_classes == ["corrupt_workbook"]
    monkeypatch.setattr(workbook, "MAX_XML_BYTES", 100)
    assert convert(good).error_classes == ["too_large"]


def test_a_text_document() -> None:
    row = f"<w:tbl><w:tr><w:tc>{paragraph('Client')}</w:tc><w:tc>{paragraph('d')}{paragraph('e')}</w:tc></w:tr></w:tbl>"
    body = (
        paragraph("Session 3")
        + paragraph("Therapist: ", "a &amp; b")
        + "<w:p><w:r><w:t>Client:</w:t><w:tab/><w:t>c</w:t></w:r></w:p>"
    )
    got = convert(word(body + paragraph("Therapist: x") + row), "gdrive/raw/F/Session 3.docx")
    assert got.messages == [[("assistant", "a & b"), ("user", "c"), ("assistant", "x"), ("user", "d\ne")]]
    assert (got.ledger.container, got.rows[0]["source"]["position_kind"]) == ("word_document", "object")


def test_a_document_with_entities_or_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]>'
    assert convert(word(paragraph("&b;"), bomb)).error_classes == ["corrupt_word"]
    assert convert(word("<w:p>")).error_classes == ["corrupt_word"]
    monkeypatch.setattr(word_document, "MAX_RECORD_BYTES", 100)
    assert convert(word(paragraph("Therapist: a") * 9)).error_classes == ["too_large"]


def test_an_archive_with_documents() -> None:
    document = word(paragraph("Therapist: a") + paragraph("Client: b"))
    got = convert(zipped({"a.docx": document, "b.xlsx": excel([["Question", "Answer"], ["a", "b"]])}))
    assert [row["source"]["member"] for row in got.rows] == ["a.docx", "b.xlsx/S1"]
    assert zipfile.is_zipfile(io.BytesIO(document))
