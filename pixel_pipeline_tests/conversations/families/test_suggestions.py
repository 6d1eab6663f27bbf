"""Suggested rules are valid, match what they claim, and do not touch sorted objects."""

from collections import Counter
from pathlib import Path
import tempfile

from hypothesis import given
from hypothesis import strategies as st
import pyarrow as pa

from pixel_pipeline.conversations.families.category_words import CategoryWords
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.conversations.families.suggestions import Suggestions, as_yaml, suggest

RULES = """\
rules:
  - match: ["gdrive/raw/Sorted/**", "gdrive/raw/*/done/**"]
    category: professional_therapeutic
    family: sorted
    dataset: calm_cptsd
"""


def loaded(text: str) -> FamilyConfig:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "families.yaml")
        path.write_text(text, encoding="utf-8")
        return FamilyConfig.load(path)


def inventory(*keys: str) -> pa.Table:
    sizes = range(1, len(keys) + 1)
    return pa.table({"key": pa.array(keys, pa.string()), "size": pa.array(sizes, pa.int64())})


def pasted(suggestions: Suggestions, rules: str = "") -> FamilyConfig:
    return loaded(rules + as_yaml(suggestions, below=bool(rules)))


def rules_of(*keys: str) -> list[tuple[str, str, tuple[str, ...], int]]:
    suggestions = suggest(inventory(*keys), FamilyConfig())
    pasted(suggestions)
    return [(rule.family, rule.category, rule.match, rule.objects) for rule in suggestions.rules]


def test_a_folder_name_covers_everything_below_it() -> None:
    waves = [f"gdrive/raw/Therapy Exports 2024/wave{n}/{m}.jsonl" for n in (1, 2) for m in "abc"]
    assert rules_of(*waves) == [
        ("therapy_exports_2024", "professional_therapeutic", ("gdrive/raw/Therapy Exports 2024/**",), 6)
    ]


def test_an_inner_folder_wins_if_its_category_comes_first() -> None:
    assert rules_of("gdrive/raw/Therapy X/CPTSD/a.json", "gdrive/raw/Therapy X/b.json") == [
        ("therapy_x_cptsd", "cptsd", ("gdrive/raw/Therapy X/**/*CPTSD*/**",), 1),
        ("therapy_x", "professional_therapeutic", ("gdrive/raw/Therapy X/**",), 1),
    ]
    assert rules_of("acquired/PTSD talks/counselling/a.json", "acquired/PTSD talks/b.json") == [
        ("ptsd_talks", "cptsd", ("acquired/PTSD talks/**",), 2)
    ]


def test_file_names_count_if_no_folder_has_a_category() -> None:
    assert rules_of(
        "gdrive/raw/cptsd_1.json",
        "gdrive/raw/more cptsd.csv",
        "gdrive/raw/x.json",
        "gdrive/raw/Dump/part 1/cot_1.json",
        "gdrive/raw/Dump/part 2/cot_22.json",
        "gdrive/raw/Dump/scottish.json",
    ) == [
        ("unsorted_cptsd", "cptsd", ("gdrive/raw/*cptsd*",), 2),
        # `*cot*` would take the Scottish ones.
        ("dump_cot_reasoning", "cot_reasoning", ("gdrive/raw/Dump/part */cot_*.json",), 2),
    ]


def test_a_rule_covers_a_folder_if_most_of_its_files_agree() -> None:
    keys = [f"gdrive/raw/From Sam/voice memo {n}.json" for n in range(9)]
    assert rules_of(*keys, "gdrive/raw/From Sam/notes.txt") == [
        ("from_sam", "voice", ("gdrive/raw/From Sam/**",), 10)
    ]
    suggestions = suggest(inventory(*keys, "gdrive/raw/From Sam/notes.txt"), FamilyConfig())
    assert '"voice" in file names, of 9 of them' in as_yaml(suggestions, below=False)


def test_folders_with_the_same_name_are_one_family() -> None:
    assert rules_of("gdrive/raw/Therapy: notes/a", "acquired/therapy notes/b") == [
        (
            "therapy_notes",
            "professional_therapeutic",
            ("acquired/therapy notes/**", "gdrive/raw/Therapy: notes/**"),
            2,
        )
    ]


def test_existing_names_are_not_reused() -> None:
    config = loaded(RULES)
    found = suggest(
        inventory("gdrive/raw/Calm/a cptsd.json", "gdrive/raw/Calm/b.json", "gdrive/raw/c"), config
    )
    assert [rule.family for rule in found.rules] == ["calm_cptsd_2"]
    assert pasted(found, RULES).classify("gdrive/raw/Calm/a cptsd.json").family == "calm_cptsd_2"
    both = suggest(
        inventory("gdrive/raw/Calm/a cptsd.json", "gdrive/raw/Calm/b", "acquired/Calm cptsd/x"), config
    )
    assert sorted(rule.family for rule in both.rules) == ["calm_cptsd_2", "calm_cptsd_cptsd"]


def test_sorted_objects_get_no_suggestion() -> None:
    sorted_already = (
        "gdrive/raw/Sorted/cptsd.json",
        "acquired/SORTED/cptsd.json",
        "gdrive/raw/Voice/cptsd.json",
    )
    assert suggest(inventory(*sorted_already), loaded(RULES)) == Suggestions((), ())


def test_words_of_families_yaml_come_first() -> None:
    config = loaded("words: {grief: [bereavement], voice: [grief]}")
    words = CategoryWords.of(config)
    assert words.categories[:2] == ("grief", "voice")
    found = suggest(inventory("gdrive/raw/Bereavement therapy/a", "gdrive/raw/Memo/b"), config)
    assert [(rule.family, rule.category) for rule in found.rules] == [("bereavement_therapy", "grief")]
    assert [(left.place, left.family) for left in found.unnamed] == [("gdrive/raw/Memo/", "memo")]


WORDS = (
    "cptsd",
    "CoT",
    "Voice memo",
    "therapy",
    "calm",
    "notes",
    "2023",
    "12",
    "crisis",
    "*",
    "a?b",
    '"',
    "心理咨询",
    "done",
    "x\\y",
)
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
TIERS = st.sampled_from(["gdrive/raw/", "acquired/"])
KEYS = st.builds(str.__add__, TIERS, st.lists(NAMES, min_size=1, max_size=4).map("/".join))


@given(st.lists(KEYS, min_size=1, max_size=12, unique=True), st.sampled_from(["", RULES]))
def test_pasted_suggestions_match_what_they_claim(keys: list[str], rules: str) -> None:
    before = loaded(rules)
    found = suggest(inventory(*keys), before)
    after = pasted(found, rules)
    taken = after.rule_column(pa.chunked_array([keys], pa.string())).to_pylist()
    objects = Counter(number - len(before.rules) for number in taken if number is not None)
    for number, rule in enumerate(found.rules):
        assert rule.objects == objects[number] > 0
        of_rule = [key for key, n in zip(keys, taken, strict=True) if n == number + len(before.rules)]
        assert {after.classify(key).place for key in of_rule} == {(rule.category, rule.family, rule.dataset)}
        assert rule.bytes == sum(keys.index(key) + 1 for key in of_rule)
    for key, number in zip(keys, taken, strict=True):
        if before.rule_column(pa.chunked_array([[key]], pa.string()))[0].is_valid:
            assert after.classify(key) == before.classify(key)
        elif number is None and not any(left.family == after.classify(key).family for left in found.unnamed):
            # Named as a category or a family is: it was sorted before.
            assert after.classify(key) == before.classify(key)
    # Nothing is left to suggest once they are there.
    assert suggest(inventory(*keys), after).rules == ()
