"""Encodings from before Unicode, told by the letters that a language uses most.

Nearly any bytes decode in most of them, so that decoding proves nothing: a text has to consist of a language's commonest
letters, and of no other's. Nothing is better than a wrong guess, which nobody would find again.
"""

import codecs
import re

MOST_SAMPLED = 256 << 10
_LEAST_LETTERS = 12
_MOST_BAD = 0.001
_SIMPLIFIED = (
    "的一是了我不在人有他这中大来上个们到说和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家用发天如"
    "然作方成者多日都小无同么经法当起与好看学进种将还分此心前面又定见只主没公从很她吗吧想觉什请感最近但为样"
)
_TRADITIONAL = (
    "的一是了我不在人有他這中大來上個們到說和地也子時道出而要於就下得可你年生自會那後能對著事其裡所去行過家用發天如"
    "然作方成者多日都小無同麼經法當起與好看學進種將還分此心前面又定見只主沒公從很她嗎吧想覺什請感最近但為樣"
)
_HIRAGANA = "".join(map(chr, range(0x3041, 0x3094)))
_HANGUL = "이다는에을의가고하지로한은를니나어사리도기아서그인자일들것수해있안요시게면제스보라정여으부"
_CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйОЕАИНТСВПМДЯ"
_CENTRAL = "ąęłóśżźćńěščřžýáíéůúťďňőűöüĄĘŁÓŚŻŹĆŃĚŠČŘŽÝÁÍÉŮÚŤĎŇŐŰÖÜ"
_TURKISH = "ığşçöüİĞŞÇÖÜâîû"
# Encoding, common letters, least share of them in all letters beyond ASCII: about half of what running text has.
_FOREIGN = (
    ("gb18030", frozenset(_SIMPLIFIED), 0.25),
    ("cp950", frozenset(_TRADITIONAL), 0.25),
    ("cp932", frozenset(_HIRAGANA), 0.3),
    ("cp949", frozenset(_HANGUL), 0.25),
    ("cp1251", frozenset(_CYRILLIC), 0.8),
    ("koi8-r", frozenset(_CYRILLIC), 0.8),
    ("cp1254", frozenset(_TURKISH), 0.95),
)
_NEIGHBOURS = (("cp1254", frozenset(_TURKISH), 0.95), ("cp1250", frozenset(_CENTRAL), 0.95))
# What cp1252 makes of Turkish, Polish and Czech letters: letters of Iceland, and signs within words.
_ICELANDIC = re.compile("[ðþýÐÞÝ]")
_SIGNS = re.compile("[a-zA-Z][¡-¿×÷][a-z]|[a-z][¹³¿¼¾]|[¹³¼¾][a-z]")


def legacy_encoding(sample: bytes) -> str | None:
    """Returns the encoding in which bytes that are no UTF-8 are plainly text in one language; None where none is plain."""
    return _plain(sample, _FOREIGN)


def western_encoding(sample: bytes) -> str | None:
    """Returns which single-byte encoding Western-looking bytes are in; None where it would be no text in any."""
    text = sample[:MOST_SAMPLED].decode("cp1252", "replace")
    high = sum(letter > "\x7f" for letter in text)
    signs, letters = len(_SIGNS.findall(text)), len(_ICELANDIC.findall(text))
    czech = "ø" in text and not set(text) & set("åæ") and len(set(text) & set("ìèù")) > 1
    # Iceland has accents beside, Turkey has none.
    if not czech and signs < 0.1 * high and (letters < 0.3 * high or len(set(text) & set("áíóúéæ")) > 2):
        return "cp1252"
    return _plain(sample, _NEIGHBOURS)


def _plain(sample: bytes, candidates: tuple[tuple[str, frozenset[str], float], ...]) -> str | None:
    scores = [
        (_share(sample[:MOST_SAMPLED], name, common) / least, name) for name, common, least in candidates
    ]
    (best, name), (second, _) = sorted(scores, reverse=True)[:2]
    return name if best >= 1 and best >= 1.2 * second else None


def utf16_without_mark(sample: bytes) -> str | None:
    """Returns "utf-16-le" or "utf-16-be" for text in it that has no byte order mark: every other byte is zero, nearly."""
    sample = sample[: min(len(sample), MOST_SAMPLED) & ~1]
    if len(sample) < 4 or b"\0" not in sample:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    name, zeros, others = ("utf-16-le", odd, even) if odd > even else ("utf-16-be", even, odd)
    if zeros < 0.4 * len(sample) / 2 or others > 0.01 * len(sample):
        return None
    text = sample.decode(name, "replace")
    fine = sum(letter.isprintable() or letter in "\r\n\t" for letter in text)
    return name if fine >= 0.98 * len(text) else None


def _share(sample: bytes, encoding: str, common: frozenset[str]) -> float:
    """Returns which part of the letters beyond ASCII are common ones; 0 where the bytes are not in the encoding."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    if text.count("\ufffd") > _MOST_BAD * len(text):
        return 0.0
    letters = [letter for letter in text if letter > "\x7f" and letter.isalpha()]
    signs = sum(letter > "\x7f" and not letter.isalpha() for letter in text)
    if len(letters) < _LEAST_LETTERS or signs > len(letters):
        return 0.0
    return sum(letter in common for letter in letters) / len(letters)
