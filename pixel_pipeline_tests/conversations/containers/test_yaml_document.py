"""yaml_document: corpora of chat bots, without the pitfalls of YAML."""

import pytest

from pixel_pipeline_tests.conversations.converted import convert

CORPUS = """categories:
- mood
conversations:
- - Are you there?
  - Yes
- - How many?
  - 12
  - 1e3 then?
  - No
- - alone
- what: mapped
"""


@pytest.mark.parametrize("name", ["x.yml", "x.txt"])
def test_conversations_in_turn(name: str) -> None:
    got = convert(CORPUS.encode(), f"gdrive/raw/F/{name}")
    assert got.ledger.container == "yaml_document"
    assert got.messages == [
        [("user", "Are you there?"), ("assistant", "Yes")],
        [("user", "How many?"), ("assistant", "12"), ("user", "1e3 then?"), ("assistant", "No")],
    ]
    assert '"categories":["mood"]' in got.rows[0]["metadata"]
    assert got.error_classes == ["unrecognised_schema"] * 2


def test_turns_by_role() -> None:
    text = "conversations:\n  - messages:\n      - role: user\n        content: |\n          a\n          b\n      - role: assistant\n        content: c\n"
    assert convert(text.encode()).messages == [[("user", "a\nb\n"), ("assistant", "c")]]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("conversations:\n- - &a [x, y]\n- - *a\n", "yaml_alias"),
        ("conversations:\n- " + "[" * 5000 + "]" * 5000, "nesting_too_deep"),
        ("conversations:\n- - 'said\n", "bad_yaml"),
        ("conversations:\n- - !!python/object/apply:os.system [said]\n", "unrecognised_schema"),
    ],
    ids=["alias", "deep", "quote", "object"],
)
def test_traps(text: str, error: str) -> None:
    got = convert(text.encode(), "gdrive/raw/F/x.yml")
    assert got.error_classes == [error]
    assert "said" not in got.bad[0]["reason"]


def test_bytes_that_are_not_text() -> None:
    assert convert(CORPUS.encode() + b"- - \xff\xfe\xfd\n  - \xff").error_classes == ["undecodable"]


@pytest.mark.parametrize("text", ["Therapist: a\nClient: b\n", "name: CI\non:\n- push\n", "- one\n- two\n"])
def test_texts_that_are_not_a_corpus(text: str) -> None:
    assert convert(text.encode(), "gdrive/raw/F/x.yml").ledger.container != "yaml_document"
