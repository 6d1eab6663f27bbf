import pytest

from pixel_pipeline.conversations.families.category_words import CategoryWords
from pixel_pipeline.conversations.families.config import FamilyConfig

WORDS = CategoryWords.of(FamilyConfig())


@pytest.mark.parametrize(
    ("name", "category", "text"),
    [
        ("Therapy Exports 2024", "professional_therapeutic", "Therapy"),
        ("therapyNotes", "professional_therapeutic", "therapy"),
        ("old_THERAPISTS.json", "professional_therapeutic", "THERAPISTS"),
        ("CoTReasoning", "cot_reasoning", "CoTReasoning"),
        ("export-chain-of-thought", "cot_reasoning", "chain-of-thought"),
        ("ChainOfThought", "cot_reasoning", "ChainOfThought"),
        ("C-PTSD stories", "cptsd", "C-PTSD"),
        ("ptsd2024", "cptsd", "ptsd"),
        ("12-step talks", "addiction", "12-step"),
        ("Tier_1", "priority", "Tier_1"),
        ("心理咨询数据", "professional_therapeutic", "心理咨询"),
        ("voice of trauma", "cptsd", "trauma"),
    ],
)
def test_words_are_found_in_any_spelling(name: str, category: str, text: str) -> None:
    hint = WORDS.hint(name)
    assert hint is not None
    assert (hint.category, hint.text) == (category, text)


@pytest.mark.parametrize(
    "name", ["scottish", "tier 12", "112 step", "invoiced", "exports", "", "2024-03-01 (1).json"]
)
def test_words_inside_other_words_are_ignored(name: str) -> None:
    assert WORDS.hint(name) is None


def test_configured_categories_precede_the_built_in_ones() -> None:
    config = FamilyConfig(words={"voice": ("memo",), "grief": ()})
    words = CategoryWords.of(config)
    assert words.categories[:3] == ("voice", "grief", "cptsd")
    for name in ("memo of trauma", "audio of trauma", "voice of trauma"):
        assert words.hint(name) is not None
        assert words.hint(name).category == "voice"  # type: ignore[union-attr]
