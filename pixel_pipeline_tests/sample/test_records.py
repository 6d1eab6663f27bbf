from collections import Counter, defaultdict
from random import Random
import re

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import orjson
import pytest

from pixel_pipeline.sample import dirt
from pixel_pipeline.sample.dialogue import long_running, multi_turn, single_turn
from pixel_pipeline.sample.records import Record, compose
from pixel_pipeline.sample.texts import THEME_GROUPS, books, second_person, sentences, themes, third_person

NEAR_KINDS = ("near_duplicate", "exact_duplicate")


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """The readable records of the default Drive."""
    files = compose(seed=7, conversations=5000)
    return [record for file in files for record in file if record.kind not in ("bad_line", "empty_turn")]


def _most_alike(documents: list[set[tuple[str, ...]]]) -> list[float]:
    """The highest Jaccard similarity of each document with any other, exactly: by counting shared shingles."""
    numbers: dict[tuple[str, ...], int] = {}
    rows = [
        np.array([numbers.setdefault(shingle, len(numbers)) for shingle in document])
        for document in documents
    ]
    sizes = np.array([len(row) for row in rows])
    flat, owner = np.concatenate(rows), np.repeat(np.arange(len(rows)), sizes)
    order = np.argsort(flat, kind="stable")
    owners, starts = owner[order], np.searchsorted(flat[order], np.arange(len(numbers) + 1))
    best = []
    for index, row in enumerate(rows):
        sharing = np.concatenate([owners[starts[shingle] : starts[shingle + 1]] for shingle in row])
        shared = np.bincount(sharing, minlength=len(rows)).astype(float)
        shared[index] = 0
        best.append(float((shared / (sizes + sizes[index] - shared)).max()))
    return best


def test_only_planted_copies_are_alike(records: list[Record]) -> None:
    originals = [record for record in records if record.kind == "clean"]
    alike = _most_alike([dirt.shingles(record.conversation) for record in originals])
    assert max(alike) < 0.55
    assert len({record.conversation.messages for record in originals}) == len(originals)


def test_copies_come_from_one_earlier_file_each(records: list[Record]) -> None:
    originals = [record for record in records if record.kind == "clean"]
    by_shingle: dict[tuple[str, ...], list[int]] = defaultdict(list)
    shingles = [dirt.shingles(record.conversation) for record in originals]
    for index, document in enumerate(shingles):
        for shingle in sorted(document)[::7]:
            by_shingle[shingle].append(index)
    families = 0
    for record in records:
        if record.kind != "near_duplicate":
            continue
        copy = dirt.shingles(record.conversation)
        sharing = Counter(index for shingle in copy for index in by_shingle.get(shingle, ()))
        # A near copy shares most of its original's sampled shingles; skip the rest.
        near = [index for index, shared in sharing.items() if shared >= len(shingles[index]) / 14]
        found = [index for index in near if dirt.jaccard(copy, shingles[index]) >= 0.8]
        assert len(found) == 1
        original = originals[found[0]]
        assert 0.85 <= dirt.jaccard(copy, shingles[found[0]]) <= 0.99
        assert original.spec.path < record.spec.path
        assert original.has_phone == record.has_phone
        families += original.spec.family != record.spec.family
    assert families > 50


def test_about_three_per_cent_have_contact_details(records: list[Record]) -> None:
    share = sum(record.has_phone or record.has_email for record in records) / len(records)
    assert 0.02 < share < 0.045


def test_texts_have_no_template_markup_and_no_wrong_articles(records: list[Record]) -> None:
    wrong = re.compile(
        r"[|{}]|=>|@you|\b[aA] [aei]\w|\b[aA]n (?!hour)[^aeiou\W]|\b(\w+) \1\b|\.\.|[.?!] [a-z]| [,.?;]|\bto they\b"
    )
    for record in records:
        for text in (
            *(content for _, content in record.conversation.messages),
            record.conversation.reasoning,
        ):
            if record.kind == "clean":
                found = wrong.search(text)
                assert found is None, text[max(0, found.start() - 60) : found.end() + 30]


@pytest.mark.parametrize("group", THEME_GROUPS)
def test_each_theme_works_in_every_shape(group: str) -> None:
    for theme in themes(group):
        for section in ("opening", "detail", "thought", "teach", "step", "formulation"):
            assert len(theme.sections[section]) >= (2 if section == "formulation" else 4), theme.name
        for section in ("opening", "detail", "thought", "step"):
            assert all(line.echo for line in theme.sections[section]), (theme.name, section)
        for trial in range(20):
            rng = Random(f"{theme.name}:{trial}")
            assert len(single_turn(rng, theme, paragraphs=True, reasoned=True).messages) == 2
            assert len(multi_turn(rng, theme, exchanges=6).messages) == 12
            if group != "crisis":
                assert 20 <= len(long_running(rng, theme, sessions=3, topics=2).messages) <= 40


def test_a_counsellor_in_a_crisis_asks_about_safety_first() -> None:
    for theme in themes("crisis"):
        for trial in range(20):
            turns = [content for _, content in multi_turn(Random(trial), theme, exchanges=4).messages]
            assert any(
                word in turns[1]
                for word in (
                    "suicide",
                    "ending your life",
                    "killing",
                    "hurt",
                    "injured",
                    "urge",
                    "safe",
                    "undisturbed",
                )
            ), theme.name
            assert "crisis line" in " ".join(turns) or "emergency number" in " ".join(turns)


def test_templates_contain_no_telephone_number() -> None:
    for file in (*THEME_GROUPS, "topics", "crisis_topics", "phrases", "reasoning"):
        for book in books(file).values():
            for lines in book.sections.values():
                for line in lines:
                    assert not re.search(r"\d", line.text.draw(Random(0), _Anything()))


class _Anything(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "somebody"


def test_echo_changes_person() -> None:
    echo = "your past frightens @you, it is hard for you to see yourself, and you go"
    assert second_person(echo) == "your past frightens you, it is hard for you to see yourself, and you go"
    assert (
        third_person(echo) == "their past frightens them, it is hard for them to see themselves, and they go"
    )


@given(st.text())
def test_sentences_changes_only_case_and_is_idempotent(text: str) -> None:
    assert sentences(text).lower() == text.lower()
    assert sentences(sentences(text)) == sentences(text)


def test_sentences_capitalises_sentence_starts() -> None:
    assert sentences('she left. "he stayed." why? i know: no.') == 'She left. "He stayed." Why? I know: no.'


@given(st.integers(min_value=0, max_value=10_000))
def test_near_copy_is_similar_but_not_equal(seed: int) -> None:
    rng = Random(seed)
    theme = rng.choice(themes(rng.choice(THEME_GROUPS)))
    original = multi_turn(rng, theme, exchanges=rng.randint(4, 7))
    copy = dirt.near_copy(original, rng)
    assert copy is not None
    assert copy.messages != original.messages
    assert [role for role, _ in copy.messages] == [role for role, _ in original.messages]
    similarity = dirt.jaccard(dirt.shingles(original), dirt.shingles(copy))
    assert dirt.MIN_NEAR <= similarity <= dirt.MAX_NEAR


@given(st.integers(), st.text(alphabet=st.characters(codec="ascii"), min_size=40))
def test_bad_line_is_a_single_line_and_not_json(seed: int, text: str) -> None:
    line = dirt.bad_line(orjson.dumps({"messages": [{"role": "user", "content": text}]}), Random(seed))
    assert line.strip()
    assert b"\n" not in line
    assert b"\r" not in line
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(line)
