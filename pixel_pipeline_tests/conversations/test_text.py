from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.conversations.records import RecordError
from pixel_pipeline.conversations.text import clean, decode_cp1252, decode_document, detect_encoding


def test_clean_counts_what_it_changes() -> None:
    repaired: dict[str, int] = {}
    assert clean("a\r\nb\rc\x00\x07d\ud83de\tf\n", repaired) == "a\nb\ncd\ufffde\tf\n"
    assert repaired == {"line_ends": 2, "control_characters": 2, "lone_surrogates": 1}


@given(st.text(max_size=60))
def test_clean_text_stays_as_it_is(text: str) -> None:
    once = clean(text, {})
    repaired: dict[str, int] = {}
    assert clean(once, repaired) == once
    assert not repaired
    once.encode()


FRENCH = "Je me sens très fatigué, même après le café.\nÇa va déjà mieux à présent.\nEt là ?\n"


@pytest.mark.parametrize(
    ("sample", "encoding"),
    [
        (b"", "utf-8"),
        (FRENCH.encode(), "utf-8"),
        (FRENCH.encode("cp1252"), "cp1252"),
        (FRENCH.encode("utf-16"), "utf-16"),
        (b"plain\n" * 9 + b"caf\xe9 au lait\n", "utf-8"),
        (b"plain\n" * 90 + b"caf\xe9 au lait\n" * 3, "cp1252"),
        (FRENCH.encode() * 20 + b"caf\xe9\n" * 3, "utf-8"),
        ("来访者：你好\n".encode() + "来访者：你好\n".encode()[:-2] + b"\n", "utf-8"),
        ("来访者：你好\n".encode("gb18030") * 5, "utf-8"),
    ],
)
def test_detect_encoding(sample: bytes, encoding: str) -> None:
    assert detect_encoding(sample) == encoding


def test_a_document_may_have_one_western_line() -> None:
    repaired: dict[str, int] = {}
    assert decode_document(b"plain\n" * 9 + b"caf\xe9\n", repaired).endswith("café\n")
    assert repaired == {"cp1252": 1}
    with pytest.raises(RecordError, match="undecodable"):
        decode_document("来访者：你好\n".encode() * 5 + b"\xff\xfe\xfd", {})


@given(st.binary(max_size=50))
def test_cp1252_decodes_everything(data: bytes) -> None:
    assert len(decode_cp1252(data)) == len(data)
