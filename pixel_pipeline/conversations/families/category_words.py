"""Which category the name of a folder or file speaks of."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
import re
from typing import NamedTuple

import yaml

from pixel_pipeline.conversations.families.config import FamilyConfig, parse_words

_FILE = "category_words.yaml"


class Hint(NamedTuple):
    """What a name says.

    Attributes:
        rank: Place of the category among all; the lower one counts.
        category: Slug.
        text: What in the name says so.
    """

    rank: int
    category: str
    text: str


class CategoryWords:
    """Categories with their words, those first whose word counts.

    Args:
        words: Words or terms of several words, by category.
    """

    def __init__(self, words: Mapping[str, tuple[str, ...]]) -> None:
        self.categories = tuple(words)
        self._patterns = [_pattern((category.replace("_", " "), *terms)) for category, terms in words.items()]
        self.hint = lru_cache(maxsize=65_536)(self._hint)

    @classmethod
    def of(cls, config: FamilyConfig) -> "CategoryWords":
        """Those of families.yaml, the names of its categories among them, before those that everyone has."""
        default = parse_words(yaml.safe_load(files(__package__).joinpath(_FILE).read_text("utf-8")), _FILE)
        named = {rule.category: () for _, rule in config.rules if rule.category not in default}
        own = {**config.words, **{name: () for name in named if name not in config.words}}
        together = {category: own[category] + default.get(category, ()) for category in own}
        return cls(together | {name: terms for name, terms in default.items() if name not in together})

    def _hint(self, name: str) -> Hint | None:
        """Returns the first category that has a word in a name; None where none has."""
        for rank, pattern in enumerate(self._patterns):
            if found := pattern.search(name):
                return Hint(rank, self.categories[rank], found.group())
        return None


def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_term(term) for term in sorted(terms, key=len, reverse=True)))


def _term(term: str) -> str:
    words = [re.escape(word) for word in re.findall(r"[^\W_]+", term)]
    text = r"[\W_]*".join(words)
    if not term.isascii():
        # Scripts that put nothing between words.
        return text
    # Words also begin and end where upper and lower case do, as in `CoTReasoning` and `therapyNotes`.
    before = "[A-Za-z]" if text[0].isalpha() else "[A-Za-z0-9]"
    behind = "s?)(?![a-z])" if text[-1].isalpha() else ")(?![0-9])"
    return rf"(?:(?<!{before})|(?<=[a-z])(?=[A-Z]))(?i:{text}{behind}"
