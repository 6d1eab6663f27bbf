"""Finds the category that the name of a folder or file suggests."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
import re
from typing import NamedTuple

import yaml

from pixel_pipeline.conversations.families.config import FamilyConfig, parse_words

_FILE = "category_words.yaml"


class Hint(NamedTuple):
    """A category suggested by a name.

    Attributes:
        rank: Index of the category; lower ranks win.
        category: Slug.
        text: The matching part of the name.
    """

    rank: int
    category: str
    text: str


class CategoryWords:
    """Categories and their words, in order of precedence.

    Args:
        words: Words, or terms of several words, by category.
    """

    def __init__(self, words: Mapping[str, tuple[str, ...]]) -> None:
        self.categories = tuple(words)
        self._patterns = [_pattern((category.replace("_", " "), *terms)) for category, terms in words.items()]
        self.hint = lru_cache(maxsize=65_536)(self._hint)

    @classmethod
    def of(cls, config: FamilyConfig) -> "CategoryWords":
        """The words and category names of families.yaml, followed by the built-in words."""
        default = parse_words(yaml.safe_load(files(__package__).joinpath(_FILE).read_text("utf-8")), _FILE)
        named = {rule.category: () for _, rule in config.rules if rule.category not in default}
        own = {**config.words, **{name: () for name in named if name not in config.words}}
        merged = {category: own[category] + default.get(category, ()) for category in own}
        return cls(merged | {name: terms for name, terms in default.items() if name not in merged})

    def _hint(self, name: str) -> Hint | None:
        """Return the first category with a word in the name; None if there is none."""
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
        # Scripts without spaces between words.
        return text
    # A change of case is a word boundary too, as in `CoTReasoning` and `therapyNotes`.
    before = "[A-Za-z]" if text[0].isalpha() else "[A-Za-z0-9]"
    behind = "s?)(?![a-z])" if text[-1].isalpha() else ")(?![0-9])"
    return rf"(?:(?<!{before})|(?<=[a-z])(?=[A-Z]))(?i:{text}{behind}"
