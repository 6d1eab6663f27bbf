"""What is explained is what the conversion does, and nothing that was said."""

import gzip
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pytest

from pixel_pipeline.conversations.inspect.explanation import Explanation, explain
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline_tests.conversations.containers.packed.test_archives import zipped
from pixel_pipeline_tests.conversations.convert.test_detection import PAIR, parquet
from pixel_pipeline_tests.conversations.converted import convert, lines, sharegpt
from pixel_pipeline_tests.conversations.test_properties import records

THOUGHT = {"question": "Why?", "cot": "Hm.", "answer": "So."}


def explained(
    data: bytes, key: str = "acquired/a/file", *, stream: io.BytesIO | None = None, **settings: Any
) -> Explanation:
    source = SourceObject(
        bucket="b",
        key=key,
        etag="",
        size=len(data),
        family="a",
        category="a",
        dataset="a",
        options=ConversionOptions(**settings),
    )
    found = explain(source, io.BytesIO(data) if stream is None else stream)
    gone = sum(errors["records"] for errors in found.quarantined.values()) + sum(found.dropped.values())
    assert found.records == found.converted + gone
    assert found.detection["sample"] == sum(found.detection["votes"].values())
    orjson.dumps(found.to_json())
    return found


def test_formats_are_scored_with_those_that_lost() -> None:
    found = explained(lines(*[THOUGHT] * 3, PAIR, sharegpt("a", "b"), {"x": 1}, b"{"))
    assert [(s.name, s.matches, s.votes, s.before) for s in found.formats] == [
        ("chain_of_thought", 3, 3, ()),
        ("pair", 4, 1, ("chain_of_thought",)),
        ("sharegpt", 1, 1, ()),
    ]
    votes = {"chain_of_thought": 3, "pair": 1, "sharegpt": 1, "unrecognised": 1, "unreadable": 1}
    assert found.detection["votes"] == votes
    assert found.detection["mixed"]
    assert found.complete
    assert found.reasoning == 3
    assert found.turns == (2, 2, 2)
    assert found.roles == {"user": 5, "assistant": 5}
    assert found.quarantined["unrecognised_schema"] == {
        "records": 1,
        "reasons": {"no format matches the keys x": 1},
    }


def test_containers_are_listed_with_their_evidence() -> None:
    found = explained(lines(PAIR, PAIR))
    asked = {candidate.name: candidate for candidate in found.candidates}
    assert [name for name, candidate in asked.items() if candidate.chosen] == ["json_lines"]
    assert asked["json_lines"].why == "2 of the first 2 lines are JSON values of their own"
    assert asked["json_document"].matches
    assert not asked["csv_table"].matches
    table = explained(b"Client, hello: so\nTherapist, yes\nClient: a, b\n")
    assert {c.name: c for c in table.candidates}["text_document"].chosen
    assert {c.name: c.chosen for c in explained(parquet(PAIR)).candidates} == {
        "parquet_table": True,
        "arrow_table": False,
        "word_document": False,
    }


def test_only_the_sample_is_read() -> None:
    class Counted(io.BytesIO):
        size = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.size += len(data)
            return data

    data = lines(PAIR) * 1_000_000
    stream = Counted(data)
    found = explained(data, stream=stream)
    assert found.records == 200
    assert not found.complete
    assert stream.size < len(data) / 4


def test_members_of_an_archive_are_named() -> None:
    found = explained(
        zipped({"a.jsonl": lines(PAIR, PAIR), "LICENSE": b"All", "b.7z": b"7z\xbc\xaf\x27\x1c"})
    )
    assert found.detection["container"] == "zip"
    assert found.members == (
        ("a.jsonl", "json_lines"),
        ("LICENSE", "other"),
        ("b.7z", "unsupported_container"),
    )
    assert found.converted == 2
    many = explained(zipped({f"{n}.jsonl": lines(PAIR) for n in range(60)}))
    assert len(many.members) == many.converted == 50
    assert not many.complete
    packed = explained(gzip.compress(lines(PAIR, PAIR)))
    assert packed.detection["container_why"].startswith("unpacked (.gz); 2 of")


def test_overrides_apply_as_in_a_conversion() -> None:
    found = explained(lines(PAIR, THOUGHT), format="pair")
    assert found.detection["override"] == {"format": "pair"}
    assert found.detection["votes"] == {"pair": 2}
    refused = explained(parquet(PAIR), container="csv_table")
    assert list(refused.quarantined) == ["override_mismatch"]
    [reason] = refused.quarantined["override_mismatch"]["reasons"]
    assert refused.detection["container_why"] == reason


@pytest.mark.parametrize("name", ["file", "file.csv", "file.jsonl", "README.md"])
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode), st.lists(records, max_size=5).map(lambda r: lines(*r)),
                      st.lists(records, max_size=4).map(orjson.dumps), st.dictionaries(st.text(max_size=5), st.binary(max_size=40), max_size=3).map(zipped)))  # fmt: skip
def test_explanations_of_any_bytes_agree_with_their_conversion(name: str, data: bytes) -> None:
    found = explained(data, f"acquired/a/{name}")
    done = convert(data, f"acquired/a/{name}")
    assert found.converted == done.ledger.records_out
    assert {error: errors["records"] for error, errors in found.quarantined.items()} == done.ledger.errors
    assert found.dropped == done.ledger.dropped
    assert found.detection["container"] == done.ledger.container


def test_explanations_contain_no_text() -> None:
    said = "SENTINEL words"
    data = lines(
        {"conversations": [{"from": said, "value": said}, {"from": "gpt", "value": said}]},
        {said: said, "text": said},
        {"messages": [{"role": "user", "content": {said: said}}]},
        sharegpt(said, f"<think>{said}</think>{said}", note=said),
    )
    for document in (
        data,
        gzip.compress(data),
        b"Client: " + said.encode() + b"\nTherapist: SENTINEL\n" + data,
    ):
        assert "SENTINEL" not in str(explained(document).to_json())
