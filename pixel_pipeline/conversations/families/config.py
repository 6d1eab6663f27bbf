"""Maps raw keys to family, category and dataset: by the rules of families.yaml, else by the first folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
import re
from typing import Any, NamedTuple
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc
import xxhash
import yaml

from pixel_pipeline.conversations.families.rule_options import FamilyConfigError, parse_options
from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS, ConversionOptions

__all__ = [
    "FamilyConfig",
    "FamilyConfigError",
    "FamilyRule",
    "default_family",
    "glob_pattern",
    "parse_words",
    "slug",
]

TIERS = ("gdrive/raw/", "acquired/")
UNSORTED = "unsorted"
# Captures tier and first folder of a key.
_IN_FOLDER = rf"(?s)\A((?:{'|'.join(TIERS)})[^/]+/).*\z"
_SLUG = re.compile(r"[a-z0-9_]+")
_RULE_KEYS = {"match", "category", "family", "dataset", "read", "budget"}
# Letters that NFKD does not decompose.
_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
)


class FamilyRule(NamedTuple):
    """Where an object belongs and how it is converted. Its canonical table is `gdrive/processed/<category>/<dataset>`."""

    category: str
    family: str
    dataset: str
    options: ConversionOptions = DEFAULT_OPTIONS

    @property
    def place(self) -> tuple[str, str, str]:
        """Category, family and dataset; the same for all rules of a family."""
        return self[:3]


@dataclass(frozen=True, slots=True)
class FamilyConfig:
    """Ordered rules; the first one that matches a key applies.

    Without a match, the first folder below the tier names family, category and dataset (as a slug). Folders with the same
    slug share one family on purpose: "Couples & Family" and "couples_family". Keys without a folder, and keys outside the
    tiers, are `unsorted`.

    Attributes:
        rules: Compiled globs and their rules. `*` and `?` match within a folder, `**` crosses folders.
        words: Words by category, used only to suggest rules.
    """

    rules: tuple[tuple[re.Pattern[str], FamilyRule], ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None) -> "FamilyConfig":
        """Read families.yaml; None has no rules.

        The file has `rules`, a list of `{match: [globs], family, category, dataset, read, budget}`.
        `category` and `dataset` default to the family. All three are slugs. `read` and `budget` set fields of
        ConversionOptions and may differ between rules of one family. `words` is optional: lists of words by category.

        Raises:
            FamilyConfigError: The file or a rule is invalid, a family has two tables, or a table two families.
        """
        if path is None:
            return cls()
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FamilyConfigError(f"{path} does not exist.", hint="Create it with `rules: []`.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f" near line {mark.line + 1}" if mark else ""
            raise FamilyConfigError(f"{path} is not valid YAML{where}.", hint="Correct the file.") from None
        if document is None:
            return cls()
        if not isinstance(document, dict) or set(document) - {"rules", "words"}:
            raise FamilyConfigError(
                f"{path}: expected the top-level keys `rules` and, optionally, `words`.",
                hint="Put the rules in the list `rules`.",
            )
        entries = document.get("rules") or []
        if not isinstance(entries, list):
            raise FamilyConfigError(
                f"{path}: `rules` is not a list.", hint="Start each rule with `- match:`."
            )
        rules: list[tuple[re.Pattern[str], FamilyRule]] = []
        for number, entry in enumerate(entries, start=1):
            where = f"{path}, rule {number}"
            globs, rule = _parse_rule(entry, where)
            _check_invariant([known for _, known in rules], rule, where)
            rules.append((re.compile("|".join(glob_pattern(glob) for glob in globs)), rule))
        return cls(tuple(rules), parse_words(document.get("words"), str(path)))

    def rule_number(self, key: str) -> int | None:
        """Return the number, from 1, of the rule that matches a raw key; None if none does."""
        return next(
            (number for number, (pattern, _) in enumerate(self.rules, 1) if pattern.fullmatch(key)), None
        )

    def rule_of(self, family: str) -> FamilyRule:
        """Return the table of a family, with default options: options depend on the object (`classify`)."""
        for _, rule in self.rules:
            if rule.family == family:
                return FamilyRule(*rule.place)
        return FamilyRule(category=family, family=family, dataset=family)

    def classify(self, key: str) -> FamilyRule:
        """Return the place of a raw key, and the options of the matching rule."""
        for pattern, rule in self.rules:
            if pattern.fullmatch(key):
                return rule
        # A folder that shares the name of a configured family uses that family's table.
        return self.rule_of(default_family(key))

    def rule_column(self, keys: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the index in `rules` of the rule that matches each raw key; null if none does."""
        found = pa.chunked_array([pa.nulls(len(keys), pa.int32())])
        for number in reversed(range(len(self.rules))):
            matches = pc.match_substring_regex(keys, rf"\A(?:{self.rules[number][0].pattern})\z")
            found = pc.if_else(matches, pa.scalar(number, pa.int32()), found)
        return found

    def family_column(self, keys: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the family of each raw key, like `classify`, at about a million keys per second."""
        folders = pc.replace_substring_regex(keys, pattern=_IN_FOLDER, replacement=r"\1").combine_chunks()
        folders = pc.dictionary_encode(folders)
        names = [self.rule_of(default_family(folder)).family for folder in folders.dictionary.to_pylist()]
        found = pa.chunked_array([pa.array(names, pa.string()).take(folders.indices)])
        for pattern, rule in reversed(self.rules):
            matches = pc.match_substring_regex(keys, rf"\A(?:{pattern.pattern})\z")
            found = pc.if_else(matches, rule.family, found)
        return found


@lru_cache(maxsize=4096)
def slug(name: str) -> str:
    """Return a folder's name as `[a-z0-9_]+`, deterministically.

    Strips accents (NFKD). If other non-ASCII letters are lost, appends a hash of the name to keep such folders distinct:
    "心理咨询" becomes `folder_` and eight hex digits.
    """
    folded = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    lost = any(ord(letter) > 127 and unicodedata.category(letter)[0] in "LN" for letter in folded)
    words = re.sub(r"[^a-z0-9]+", "_", folded.encode("ascii", "ignore").decode()).strip("_")
    if words and not lost:
        return words
    digest = xxhash.xxh3_64_hexdigest(unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass"))[:8]
    return f"{words or 'folder'}_{digest}"


def default_family(key: str) -> str:
    """Return the family that the first folder of a raw key names."""
    for tier in TIERS:
        if key.startswith(tier):
            folder, slash, _ = key.removeprefix(tier).partition("/")
            return slug(folder) if slash and folder else UNSORTED
    return UNSORTED


def parse_words(words: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Validate the lists of words by category from YAML.

    Raises:
        FamilyConfigError: The structure or a value is invalid.
    """
    if words is None:
        return {}
    if not isinstance(words, dict):
        raise FamilyConfigError(
            f"{where}: `words` is not a mapping.", hint="Give a list of words by category."
        )
    for category, terms in words.items():
        if not isinstance(category, str) or not _SLUG.fullmatch(category):
            raise FamilyConfigError(
                f"{where}: `words` has the category {category!r}.",
                hint="Use lower-case letters, digits and _.",
            )
        if not isinstance(terms, list) or not all(
            isinstance(term, str) and any(map(str.isalnum, term)) for term in terms
        ):
            raise FamilyConfigError(
                f"{where}: `words.{category}` is not a list of words.",
                hint="Quote words that YAML reads as numbers or booleans.",
            )
    return {category: tuple(terms) for category, terms in words.items()}


def _parse_rule(entry: Any, where: str) -> tuple[list[str], FamilyRule]:
    if not isinstance(entry, dict):
        raise FamilyConfigError(
            f"{where}: expected a mapping with `match` and `family`.", hint="Correct the rule."
        )
    if unknown := sorted(str(key) for key in set(entry) - _RULE_KEYS):
        expected = ", ".join(sorted(_RULE_KEYS))
        raise FamilyConfigError(
            f"{where}: unknown keys {', '.join(unknown)}.", hint=f"A rule has: {expected}."
        )
    globs = entry.get("match")
    globs = [globs] if isinstance(globs, str) else globs
    if not isinstance(globs, list) or not globs or not all(isinstance(glob, str) and glob for glob in globs):
        raise FamilyConfigError(f"{where}: `match` is not a list of globs.", hint="Give globs over raw keys.")
    family = entry.get("family")
    names: dict[str, Any] = {
        "category": entry.get("category", family),
        "family": family,
        "dataset": entry.get("dataset", family),
    }
    for part in ("family", "category", "dataset"):
        name = names[part]
        if not isinstance(name, str) or not _SLUG.fullmatch(name):
            raise FamilyConfigError(
                f"{where}: `{part}` is {name!r}.", hint="Use lower-case letters, digits and _."
            )
    return globs, FamilyRule(**names, options=parse_options(entry, where))


def _check_invariant(known: Sequence[FamilyRule], rule: FamilyRule, where: str) -> None:
    """Check that each family has one table, and each table one family, including the default families of folders."""
    table = f"{rule.category}/{rule.dataset}"
    for other in known:
        if other.family == rule.family and other.place != rule.place:
            raise FamilyConfigError(
                f"{where}: the family {rule.family} has the table {table} here and "
                f"{other.category}/{other.dataset} above.",
                hint="Give a family one category and one dataset.",
            )
        if other.family != rule.family and (other.category, other.dataset) == (rule.category, rule.dataset):
            raise FamilyConfigError(
                f"{where}: the table {table} already belongs to the family {other.family}.",
                hint="Give each family its own dataset.",
            )
    if rule.category == rule.dataset != rule.family or (
        rule.family == UNSORTED and table != "unsorted/unsorted"
    ):
        raise FamilyConfigError(
            f"{where}: the table {table} is reserved for the family that a folder of this name gets by default.",
            hint="Choose a category and a dataset that differ.",
        )


def glob_pattern(glob: str) -> str:
    """Translate a glob to a regular expression: `**/` matches any number of folders, `**` anything, `*` and `?` anything except `/`."""
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return "(?s:" + "".join(pieces.get(part, re.escape(part)) for part in parts) + ")"
