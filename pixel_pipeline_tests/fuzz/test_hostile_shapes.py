"""Megabytes of hostile input: linear code takes a second, quadratic code is stopped (`target.bounded`)."""

import gzip

import orjson
import pytest

from pixel_pipeline_tests.conversations.converted import convert
from pixel_pipeline_tests.fuzz.target import bounded

SIZE = 1 << 20
TALK = b"Therapist: a\nClient: b "
CUE = b"00:01.000 --> 00:02.000\nTherapist: a\n"


def _pair(answer: str) -> bytes:
    return orjson.dumps({"prompt": "a", "response": answer}) + b"\n{}\n"


SHAPES = {
    "columns of one name.csv": lambda: b"c," * (SIZE // 16) + b"c\n" + b"1," * (SIZE // 16) + b"1\n",
    "rows that open a quote.csv": lambda: (
        b"a,b\n" + b"1,2\n" * 60 + b'a,"b""\n' * 200 + b"1,2\n" * (SIZE // 32)
    ),
    "white space before a closing tag.jsonl": lambda: _pair(" " * SIZE + "</think"),
    "closing tags of a thought.jsonl": lambda: _pair("<think></think><answer></answer>" * (SIZE // 32) + "a"),
    "cues without blank lines.vtt": lambda: b"WEBVTT\n\n" + CUE * (SIZE // len(CUE)),
    "turns of one side in a template.txt": lambda: b"[INST] a [/INST] b " + b"[INST] a b " * (SIZE // 11),
    "glued turns.jsonl": lambda: (
        orjson.dumps(
            {
                "messages": [
                    {"role": "user", "content": "我累。支持者：好。"},
                    {"role": "assistant", "content": "a"},
                ]
                * (SIZE // 100)
            }
        )
        + b"\n{}\n"
    ),
    "members of gzip.jsonl.gz": lambda: gzip.compress(b'{"prompt":"a","response":"b"}\n') * (SIZE // 8),
    "brackets.json": lambda: b"[" * SIZE,
    "backslashes.json": lambda: b'["' + b"\\" * SIZE,
    "objects within each other.json": lambda: b'{"a":' * (SIZE // 5),
    "elements without an end.json": lambda: b"[" + b'{"a": [{"b": 0},\n' * (SIZE // 16),
    "elements without an end of a string.json": lambda: b"[" + b'{"a": "b,\n' * (SIZE // 10),
    "objects one after another without an end.json": lambda: (
        b'{"prompt": 1}\n{"prompt": 1}\n' + b'{"a": [\n' * (SIZE // 8)
    ),
    "members without an end.json": lambda: b"{" + b'"k": {"a": [0],\n' * (SIZE // 16),
    "digits.jsonl": lambda: b'{"prompt":"a","response":"b","x":' + b"9" * SIZE + b"}\n{}\n",
    "spaces.txt": lambda: TALK + b" " * SIZE + b"x",
    "backticks.txt": lambda: TALK + b"<" + b"` " * (SIZE // 2),
    "tags that do not close.txt": lambda: TALK + b"<a " * (SIZE // 3),
    "entities within each other.txt": lambda: TALK + b"&" + b"amp;" * (SIZE // 4),
    "mojibake.txt": lambda: TALK + "Ã©Ã ".encode() * (SIZE // 5),
    "a ring of messages.jsonl": lambda: b"\n".join(
        orjson.dumps({"id": n, "parent_id": (n + 1) % 9000, "role": "user", "text": "a"}) for n in range(9000)
    ),
    "a comb of messages.jsonl": lambda: b"\n".join(
        orjson.dumps(
            {"id": n, "parent_id": max(0, n - n % 2 - 2), "role": ("user", "bot")[n // 2 % 2], "text": "a"}
        )
        for n in range(12_000)
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_they_end_in_linear_time(name: str) -> None:
    data = SHAPES[name]()
    with bounded():
        assert convert(data, f"gdrive/raw/F/{name}").ledger.records_in
