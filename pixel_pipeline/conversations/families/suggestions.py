"""Suggests rules for raw objects without one, from words in the names of folders and files.

A folder's category applies to everything below it. If several folders of a path have one, the category that comes first in the
list of words wins. File names count only if no folder has a category. A rule is as short as a person would write it
(`gdrive/raw/Shared/**/*cptsd*`) if that matches no other object; otherwise it lists folders and files.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
import re
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pixel_pipeline.conversations.families.category_words import CategoryWords, Hint
from pixel_pipeline.conversations.families.config import (
    TIERS,
    UNSORTED,
    FamilyConfig,
    FamilyRule,
    default_family,
    glob_pattern,
    slug,
)

SHOWN_TEXTS = 5
SHOWN_UNNAMED = 50
WHOLE_FOLDER_SHARE = 0.8
"""A rule covers a whole folder if this share of its objects has the category and the others have none."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A rule for families.yaml, and the objects it would match.

    Attributes:
        match: Globs over raw keys.
        evidence: Why the category is suggested, in words.
        objects, bytes: Objects that the rule would apply to, after the existing rules and the suggestions before it.
    """

    match: tuple[str, ...]
    category: str
    family: str
    dataset: str
    evidence: str
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Objects without a rule and without a suggestion. They belong to the family of their first folder."""

    place: str
    family: str
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Suggested rules in their required order, and the objects they do not match."""

    rules: tuple[Suggestion, ...]
    unnamed: tuple[Unnamed, ...]


class _KeyHint(NamedTuple):
    """The category suggested for one key. `depth` is the index of the folder, or of the file, that suggests it."""

    key: str
    place: str
    hint: Hint
    depth: int
    of_file: bool


def suggest(inventory: pa.Table, config: FamilyConfig) -> Suggestions:
    """Suggest rules for unsorted objects.

    Args:
        inventory: Table with the columns key and size.
    """
    words = CategoryWords.of(config)
    unsorted = inventory.filter(_unsorted(inventory["key"], config, words)).select(["key", "size"])
    keys: list[str] = unsorted["key"].to_pylist()
    by_place: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        by_place[_place(key)].append(key)
    hints = {place: [hint for key in of if (hint := _key_hint(key, words))] for place, of in by_place.items()}
    groups = [group for place, found in hints.items() for group in _groups(place, found, of=by_place[place])]
    rules = _named(
        groups,
        defaults={default_family(f"{place}x") for place in by_place} | {UNSORTED, *words.categories},
        configured={name for _, rule in config.rules for name in (rule.family, rule.dataset)},
    )
    return _counted(rules, inventory=inventory, unsorted=unsorted, config=config)


def as_yaml(suggestions: Suggestions, *, below: bool) -> str:
    """Format suggestions for pasting into families.yaml.

    Args:
        below: The file already has rules; otherwise the text replaces `rules: []`.
    """
    lines = [] if below else ["rules:" if suggestions.rules else "rules: []"]
    for rule in suggestions.rules:
        lines.append(f"  # {rule.objects:,} objects, {rule.bytes:,} bytes: {rule.evidence}")
        lines.append("  - match:")
        lines += [f"      - {_quoted(glob)}" for glob in rule.match]
        decided = {name: getattr(rule, name) for name in ("category", "family", "dataset")}
        lines += [f"    {line}" for line in yaml.safe_dump(decided, sort_keys=False).splitlines()]
    if suggestions.unnamed:
        lines.append("# No category found for:")
        lines += [
            f"#   {_quoted(item.place)}  {item.objects:,} objects, {item.bytes:,} bytes, family {item.family}"
            for item in suggestions.unnamed[:SHOWN_UNNAMED]
        ]
    if len(suggestions.unnamed) > SHOWN_UNNAMED:
        lines.append(f"#   and {len(suggestions.unnamed) - SHOWN_UNNAMED:,} more folders")
    return "\n".join(lines) + "\n"


def _unsorted(keys: pa.ChunkedArray, config: FamilyConfig, words: CategoryWords) -> pa.ChunkedArray:
    """Whether each key matches no rule, and its folder is named after no configured family and no category."""
    named = {rule.family for _, rule in config.rules} | set(words.categories)
    of_named = pc.is_in(config.family_column(keys), value_set=pa.array(sorted(named), pa.string()))
    return pc.and_(pc.is_null(config.rule_column(keys)), pc.invert(of_named))


def _place(key: str) -> str:
    """The tier and first folder of a key, or only the tier, with a trailing slash."""
    tier = next((tier for tier in TIERS if key.startswith(tier)), "")
    folder, slash, _ = key.removeprefix(tier).partition("/")
    return f"{tier}{folder}/" if slash and folder else tier


def _key_hint(key: str, words: CategoryWords) -> _KeyHint | None:
    place = _place(key)
    tier = next((tier for tier in TIERS if key.startswith(tier)), None)
    if tier is None:
        return None
    *folders, name = key.removeprefix(tier).split("/")
    hints = [(hint, depth) for depth, folder in enumerate(folders) if (hint := words.hint(folder))]
    if hints:
        hint, depth = min(hints, key=lambda found: (found[0].rank, found[1]))
        return _KeyHint(key, place, hint, depth, of_file=False)
    hint = words.hint(name)
    return None if hint is None else _KeyHint(key, place, hint, len(folders), of_file=True)


class _Group(NamedTuple):
    """Keys of one first folder with the same suggested category.

    Attributes:
        order: Sort key of the rules: hints from folders first, then by rank of the category.
        family: Default family of the first folder.
        whole: The group is the whole folder.
    """

    order: tuple[bool, int, str]
    category: str
    family: str
    match: tuple[str, ...]
    evidence: str
    whole: bool = False


def _groups(place: str, hints: Sequence[_KeyHint], *, of: Sequence[str]) -> Iterator[_Group]:
    by_category: dict[tuple[str, bool], list[_KeyHint]] = defaultdict(list)
    for item in hints:
        by_category[item.hint.category, item.of_file].append(item)
    first = UNSORTED if place in TIERS else slug(place.rstrip("/").rpartition("/")[2])
    for (category, of_file), found in by_category.items():
        texts = [_quoted(text) for text in sorted({item.hint.text for item in found})]
        own = not of_file and any(item.depth == 0 for item in found)
        most = len(found) == len(hints) >= WHOLE_FOLDER_SHARE * len(of) and place not in TIERS
        if own:
            evidence = f"{texts[0]} in the folder's name"
        else:
            evidence = f"{', '.join(texts[:SHOWN_TEXTS])} in {'file' if of_file else 'folder'} names"
            evidence += f", of {len(found):,} of them" if most and len(found) < len(of) else ""
        yield _Group(
            order=(of_file, found[0].hint.rank, place),
            category=category,
            family=first,
            match=(f"{place}**",) if own or most else _globs(place, found, of=of),
            evidence=evidence,
            whole=(own or most) and first != UNSORTED,
        )


def _globs(place: str, found: Sequence[_KeyHint], *, of: Sequence[str]) -> tuple[str, ...]:
    """For each key, the shortest glob that matches no other object of the folder."""
    selected = {item.key for item in found}
    others = pa.array([key for key in of if key not in selected], pa.string())

    @cache
    def fits(glob: str) -> bool:
        matched = pc.match_substring_regex(others, rf"\A(?:{glob_pattern(glob)})\z")
        return not pc.any(matched).as_py()

    globs = set()
    for item in found:
        *short, exact = _candidates(place, item)
        globs.add(next(filter(fits, short), exact))
    return tuple(sorted(globs))


def _candidates(place: str, item: _KeyHint) -> tuple[str, str, str]:
    """Globs from short to exact: the word anywhere in the first folder; the path with numbers as wildcards; the path."""
    tier = next(tier for tier in TIERS if item.key.startswith(tier))
    exact = "/".join(item.key.removeprefix(tier).split("/")[: item.depth + 1])
    end = "" if item.of_file else "/**"
    anywhere = place if place in TIERS else f"{place}**/"
    within = f"{tier}{exact}".removeprefix(place)
    return (
        f"{anywhere}*{item.hint.text}*{end}",
        place + re.sub(r"\d+", "*", within) + end,
        f"{tier}{exact}{end}",
    )


def _named(groups: Iterable[_Group], *, defaults: set[str], configured: set[str]) -> list[Suggestion]:
    """Merge groups with the same family and category into one rule.

    Args:
        defaults: Default families of folders.
        configured: Families and datasets of existing rules.
    """
    names: dict[tuple[str, str], str] = {}
    taken = configured.copy()
    merged: dict[tuple[bool, int, str], list[_Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.order):
        pair = (group.family, group.category)
        if pair not in names:
            name = group.family
            # A rule for a whole folder keeps the name of its family.
            if not group.whole or name in taken:
                stem = name = "_".join(pair)
                number = 1
                while name in taken | defaults:
                    number += 1
                    name = f"{stem}_{number}"
            names[pair] = name
            taken.add(name)
        merged[(*group.order[:2], names[pair])].append(group)
    return [
        Suggestion(
            match=tuple(sorted({glob for group in same for glob in group.match})),
            category=same[0].category,
            family=name,
            dataset=name,
            evidence="; ".join(dict.fromkeys(group.evidence for group in same)),
        )
        for (_, _, name), same in merged.items()
    ]


def _counted(
    rules: Sequence[Suggestion], *, inventory: pa.Table, unsorted: pa.Table, config: FamilyConfig
) -> Suggestions:
    """Count the objects that each rule matches, and those that none matches."""
    compiled = tuple(
        (
            re.compile("|".join(map(glob_pattern, rule.match))),
            FamilyRule(category=rule.category, family=rule.family, dataset=rule.dataset),
        )
        for rule in rules
    )
    whole = FamilyConfig(config.rules + compiled)
    matches = inventory.select(["size"]).append_column("rule", whole.rule_column(inventory["key"]))
    sums = {row["rule"]: row for row in _sums(matches, "rule")}
    counted = [
        replace(rule, objects=found["objects"], bytes=found["bytes"])
        for number, rule in enumerate(rules, start=len(config.rules))
        if (found := sums.get(number)) is not None
    ]
    rest = unsorted.filter(pc.is_null(whole.rule_column(unsorted["key"])))
    places = pa.array([_place(key) for key in rest["key"].to_pylist()], pa.string())
    unnamed = tuple(
        Unnamed(family=whole.rule_of(default_family(f"{row['place']}x")).family, **row)
        for row in _sums(rest.append_column("place", places), "place")
    )
    return Suggestions(tuple(counted), unnamed)


def _sums(rows: pa.Table, by: str) -> list[dict[str, Any]]:
    sums: pa.Table = rows.group_by(by).aggregate([([], "count_all"), ("size", "sum")]).sort_by(by)
    return [*sums.rename_columns([by, "objects", "bytes"]).to_pylist()]


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1 << 30).strip()
