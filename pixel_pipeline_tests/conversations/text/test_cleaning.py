from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.conversations.model.records import RecordError
from pixel_pipeline.conversations.text.cleaning import clean, decode_cp1252, decode_document, detect_encoding
from pixel_pipeline_tests.conversations.converted import convert

# A repaired text may look as if it needed another repair.
MARKUP_AND_MOJIBAKE = "&<" + "".join(map(chr, range(0xC0, 0x100)))


def test_clean_counts_its_changes() -> None:
    repaired: dict[str, int] = {}
    assert clean("a\r\nb\rc\x00\x07d\ud83de\tf\n", repaired) == "a\nb\ncd\ufffde\tf\n"
    assert repaired == {"line_ends": 2, "control_characters": 2, "lone_surrogates": 1}


@given(st.text(st.characters(exclude_characters=MARKUP_AND_MOJIBAKE), max_size=60))
def test_clean_text_is_unchanged(text: str) -> None:
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
        ("来访者：你好\n".encode("gb18030"), "utf-8"),
        (FRENCH.encode("utf-16-le"), "utf-16-le"),
        (FRENCH.encode("utf-16-be"), "utf-16-be"),
        (FRENCH.encode("utf-32"), "utf-32"),
    ],
)
def test_detect_encoding(sample: bytes, encoding: str) -> None:
    assert detect_encoding(sample).name == encoding


def test_a_document_may_have_one_western_line() -> None:
    repaired: dict[str, int] = {}
    assert decode_document(b"plain\n" * 9 + b"caf\xe9\n", repaired).endswith("café\n")
    assert repaired == {"cp1252": 1}
    with pytest.raises(RecordError, match="undecodable"):
        decode_document("来访者：你好\n".encode() * 5 + b"\xff\xfe\xfd", {})


@given(st.binary(max_size=50))
def test_cp1252_decodes_everything(data: bytes) -> None:
    assert len(decode_cp1252(data)) == len(data)


LANGUAGES = {
    "gb18030": "来访者：我最近一直觉得很累，不知道该怎么办，晚上也睡不着。\n咨询师：谢谢你告诉我这些，我们一起来看看。\n",
    "cp950": "個案：我最近一直覺得很累，不知道該怎麼辦，晚上也睡不著。\n諮商師：謝謝你告訴我這些，我們一起來看看。\n",
    "cp932": "相談者：最近とても疲れていて、どうしたらいいかわかりません。\nカウンセラー：話してくださってありがとう。\n",
    "cp949": "내담자: 요즘 너무 피곤하고 어떻게 해야 할지 모르겠어요.\n상담사: 말씀해 주셔서 감사합니다. 같이 살펴볼까요?\n",
    "cp1251": "Клиент: В последнее время я очень устаю и не знаю, что делать.\nТерапевт: Спасибо, что рассказали мне.\n",
    "koi8-r": "Клиент: В последнее время я очень устаю и не знаю, что делать.\nТерапевт: Спасибо, что рассказали мне.\n",
    "cp1254": "Danışan: Son zamanlarda çok yorgunum ve ne yapacağımı bilmiyorum.\nTerapist: Bunu paylaştığın için teşekkür ederim, ne hissediyorsun?\n",
    "cp1250": "Klient: Byłem bardzo zmęczony i nie wiem, co robić, boję się, że mają rację, żyłem źle.\nTerapeuta: Dziękuję, że mówisz, są łzy.\n",
    "cp1252": "Klient: Ich bin müde und weiß nicht weiter.\nTherapeut: Erzählen Sie mir mehr darüber, was Sie fühlen.\nJa, schön.\n",
}


SHORT = {
    "cp1250": [
        "Klient: Nemůžu spát a pořád přemýšlím.\n", "Q,A\nJak se máte?,Děkuji dobře\nBojíte se?,Někdy\n", "Klient: Ďakujem, nemôžem spať.\n",
        "Klient: Boję się, że nie.\n", "Kliens: Félek, hogy nőtt a szorongás.\n", "Client: Mi-e frică şi nu pot.\n", "Klijent: Teško mi je, neću uspjeti.\n",
    ],
    "cp1252": [
        "Klient: Ich bin müde, weiß nicht.\n", "Client: Où êtes-vous né? Très bien, voilà.\n", "Cliente: ¿Qué puedo hacer mañana?\n",
        "Cliente: È così, perché può.\n", "Cliente: Não sei, são preocupações à noite.\n", "Klient: Jeg føler mig træt, går ikke.\n",
        "Klient: Jag är trött på våren.\n", "Ég: Jæja, ég er þreyttur og veit ekki hvað.\n", "Client: I’m tired – “so” tired.\n", "Klient: zwei m² für Zoë\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize("encoding", SHORT)
def test_one_line_distinguishes_western_from_central_european(encoding: str) -> None:
    for text in SHORT[encoding]:
        repaired: dict[str, int] = {}
        assert decode_document(text.encode(encoding), repaired) == text
        assert repaired == {encoding: 1}
        assert convert((text * 3).encode(encoding)).ledger.encoding == encoding


@pytest.mark.parametrize("encoding", LANGUAGES)
def test_legacy_encodings_are_detected_by_letters(encoding: str) -> None:
    data = LANGUAGES[encoding].encode(encoding)
    assert detect_encoding(data).name == encoding
    assert convert(data).ledger.encoding == encoding


@pytest.mark.parametrize("encoding", ["iso8859-5", "euc-jp", "cp1253", "cp1256"])
def test_uncertain_encodings_are_not_guessed(encoding: str) -> None:
    text = {"euc-jp": LANGUAGES["cp932"], "iso8859-5": LANGUAGES["cp1251"]}.get(encoding)
    if text is None:
        text = (
            "Νιώθω πολύ κουρασμένος και δεν ξέρω τι να κάνω\n"
            if encoding == "cp1253"
            else "أشعر بالتعب ولا أعرف ماذا أفعل\n"
        )
    assert detect_encoding((text * 3).encode(encoding)).name == "utf-8"


@given(st.binary(max_size=200))
def test_any_bytes_have_an_encoding_that_python_knows(data: bytes) -> None:
    data.decode(detect_encoding(data).name, "replace")


@pytest.mark.parametrize(
    ("dirty", "clean_text", "kinds"),
    [
        ("it&#39;s &quot;ok&quot; &amp; more&nbsp;so", 'it\'s "ok" & more so', {"html_entities": 5}),
        ("&amp;amp;lt;3", "<3", {"html_entities": 2}),
        ("<p>One</p><p>Two<br>x<br />y</p>", "One\n\nTwo\nx\ny", {"html_tags": 6}),
        ("<b>so</b> <ul><li>a</li><li>b</li></ul>", "so \n\n- a\n- b", {"html_tags": 8}),
        ("I donâ€™t know", "I don’t know", {"mojibake": 1}),
        ("schÃ¶n, cafÃ©", "schön, café", {"mojibake": 1}),
        ("a\u200bb\ufeffc\u00add", "abcd", {"invisible_characters": 3}),
    ],
)
def test_repairs_with_evidence(dirty: str, clean_text: str, kinds: dict[str, int]) -> None:
    repaired: dict[str, int] = {}
    assert clean(dirty, repaired) == clean_text
    assert repaired == kinds


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d", "List<T> of <name>", "if a<b and b>c:", "AT&T; R&D; &notaword;", "Use `&amp;` here", "```\n<p>a</p>&lt;\n```",
        "<p>is how a <table> starts", "the <b> tag", "x <3 y", "désolé… « ça » – l’été", "NÃO É ASSIM", "Ã", "👨\u200d👩\u200d👧 می\u200cخواهم", "5 &lt 6",
    ],
)  # fmt: skip
def test_texts_without_evidence_are_not_repaired(text: str) -> None:
    repaired: dict[str, int] = {}
    assert (clean(text, repaired), repaired) == (text, {})


@given(st.text("<>/&;#x1amplbrp `\u00c3\u00a9\u20ac", max_size=60))
def test_repair_never_fails_and_never_adds(text: str) -> None:
    assert len(clean(text, {})) <= len(text) + 2 * text.count("<")
