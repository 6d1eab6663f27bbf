"""Detection of encodings older than Unicode, by the most frequent letters of a language.

Most of them decode nearly any bytes, so decoding proves nothing: a text must consist of one language's most frequent letters.
No answer is better than a wrong guess, which would never be noticed.
"""

import codecs
import re

_SAMPLED_BYTES = 256 << 10
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
_TURKISH = "ığşçöüİĞŞÇÖÜâîû"
# Encoding, common letters, least share of them among non-ASCII letters: about half of their share in running text.
_FOREIGN = (
    ("gb18030", frozenset(_SIMPLIFIED), 0.25),
    ("cp950", frozenset(_TRADITIONAL), 0.25),
    ("cp932", frozenset(_HIRAGANA), 0.3),
    ("cp949", frozenset(_HANGUL), 0.25),
    ("cp1251", frozenset(_CYRILLIC), 0.8),
    ("koi8-r", frozenset(_CYRILLIC), 0.8),
    ("cp1254", frozenset(_TURKISH), 0.95),
)
# Non-ASCII letters of languages with single-byte encodings; a text in one of them has hardly any others. Capitals occur only at
# the end of words.
_WESTERN = (
    "äöüßé", "àâæçéèêëîïôœùûüÿ", "áéíñóúü", "éÀÈÌÒÙ", "áâãàçéêíóôúü", "áàâãçéêíóôõú", "æøåéöä", "åäöé", "àáäèéëêíïóöü", "áðéíóúýþæö",
    "äõöüšž", "àçéèíïóòúü·",
)  # fmt: skip
_CENTRAL = (
    "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "ąćęłńóśźż", "áéíóöőúüű", "ăâîşţ", "čćđšž", "čšžćđ",
)  # fmt: skip
_NEIGHBOURS = (("cp1254", ("çğıöşüâîû",)), ("cp1250", _CENTRAL))
_LEAST_OWN = 0.97
# Turkish and Polish letters read as cp1252 become Icelandic letters and signs within words.
_ICELANDIC = re.compile("[ðþýÐÞÝ]")
_SIGNS = re.compile("[a-zA-Z][¡-¿×÷][a-z]|[a-z][¹³¿¼¾]|[¹³¼¾][a-z]")
_NOT_PORTUGUESE = re.compile("õ(?!e)")
_WORD = re.compile(r"[^\W\d_]+")


def legacy_encoding(sample: bytes) -> str | None:
    """Return the encoding in which bytes are plainly text in one language, or None."""
    scores = [
        (_share(sample[:_SAMPLED_BYTES], name, common) / least, name) for name, common, least in _FOREIGN
    ]
    (best, name), (second, _) = sorted(scores, reverse=True)[:2]
    return name if best >= 1 and best >= 1.2 * second else None


def western_encoding(sample: bytes) -> str | None:
    """Return the single-byte encoding of Western-looking bytes, or None if they are text in none."""
    sample = sample[:_SAMPLED_BYTES]
    text = sample.decode("cp1252", "replace")
    signs = len(_SIGNS.findall(text))
    # `¿` is Spanish, or a Polish letter read as cp1252. In Portuguese õ precedes e; in Hungarian text (ő) it may stand anywhere.
    polish, hungarian = "¿" in text, _NOT_PORTUGUESE.search(text) is not None
    languages = (
        letters
        for letters in _WESTERN
        if not (polish and "ñ" not in letters) and not (hungarian and "ã" in letters)
    )
    if not signs and any(_own_share(text, letters) >= _LEAST_OWN for letters in languages):
        return "cp1252"
    shares = [
        (_own_share(sample.decode(encoding, "replace"), letters), encoding)
        for encoding, neighbours in _NEIGHBOURS
        for letters in neighbours
    ]
    share, encoding = max(shares)
    if share >= _LEAST_OWN:
        return encoding
    # Several languages, or names.
    high, icelandic = sum(letter > "\x7f" for letter in text), len(_ICELANDIC.findall(text))
    return "cp1252" if signs < 0.1 * high and icelandic < 0.3 * high else None


def _own_share(text: str, letters: str) -> float:
    """Return the share of a text's non-ASCII letters that belong to a language."""
    own = total = 0
    for word in _WORD.findall(text):
        if word.isascii():
            continue
        for index, letter in enumerate(word):
            if letter > "\x7f":
                total += 1
                small = letter.lower()
                own += small in letters or (index == len(word) - 1 and small.upper() in letters)
    return own / total if total else 1.0


def utf16_without_mark(sample: bytes) -> str | None:
    """Return "utf-16-le" or "utf-16-be" for such text without a byte order mark: nearly every other byte is zero."""
    sample = sample[: min(len(sample), _SAMPLED_BYTES) & ~1]
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
    """Return the share of common letters among non-ASCII letters; 0 if the bytes are not in the encoding."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    if text.count("\ufffd") > _MOST_BAD * len(text):
        return 0.0
    letters = [letter for letter in text if letter > "\x7f" and letter.isalpha()]
    signs = sum(letter > "\x7f" and not letter.isalpha() for letter in text)
    if len(letters) < _LEAST_LETTERS or signs > len(letters):
        return 0.0
    return sum(letter in common for letter in letters) / len(letters)
