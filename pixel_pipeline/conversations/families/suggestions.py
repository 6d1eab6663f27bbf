"""Rules for raw objects that no rule of families.yaml names, guessed from the words of folders and files.

A folder speaks for all that lies in it; of several that speak, the one whose category comes first in the list of words counts.
Files speak where no folder does. A rule is written as a person would write it (`gdrive/raw/Shared/**/*cptsd*`) where that
takes nothing but what is meant, else folder by folder and file by file.
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
MOST_SAID = 0.8
"""A folder that says nothing itself goes with this share of its objects, if none of the others says anything else."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A rule for families.yaml, and what it would take.

    Attributes:
        match: Globs over raw keys.
        evidence: What speaks for the category, for a person.
        objects, bytes: What the rule would decide about, below the rules that are there and the suggestions before it.
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
    """Objects of which neither a rule nor a word says anything. They belong to the family of their first folder."""

    place: str
    family: str
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Rules in the order in which they have to stand, and what they leave over."""

    rules: tuple[Suggestion, ...]
    unnamed: tuple[Unnamed, ...]


class _Said(NamedTuple):
    """What is said of one key."""

    key: str
    place: str
    hint: Hint
    depth: int
    of_file: bool


def suggest(inventory: pa.Table, config: FamilyConfig) -> Suggestions:
    """Suggests rules for what is unsorted.

    Args:
        inventory: Table of INVENTORY_SCHEMA, of which key and size are used.
    """
    words = CategoryWords.of(config)
    unsorted = inventory.filter(_unsorted(inventory["key"], config, words)).select(["key", "size"])
    keys: list[str] = unsorted["key"].to_pylist()
    by_place: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        by_place[_place(key)].append(key)
    said = {place: [found for key in of if (found := _said(key, words))] for place, of in by_place.items()}
    groups = [group for place, found in said.items() for group in _groups(place, found, of=by_place[place])]
    rules = _named(
        groups,
        defaults={default_family(f"{place}x") for place in by_place} | {UNSORTED, *words.categories},
        configured={name for _, rule in config.rules for name in (rule.family, rule.dataset)},
    )
    return _counted(rules, inventory=inventory, unsorted=unsorted, config=config)


def as_yaml(suggestions: Suggestions, *, below: bool) -> str:
    """Returns suggestions as they can be pasted into families.yaml.

    Args:
        below: Below rules that are there; else in place of `rules: []`.
    """
    lines = [] if below else ["rules:" if suggestions.rules else "rules: []"]
    for rule in suggestions.rules:
        lines.append(f"  # {rule.objects:,} objects, {rule.bytes:,} bytes: {rule.evidence}")
        lines.append("  - match:")
        lines += [f"      - {_quoted(glob)}" for glob in rule.match]
        decided = {name: getattr(rule, name) for name in ("category", "family", "dataset")}
        lines += [f"    {line}" for line in yaml.safe_dump(decided, sort_keys=False).splitlines()]
    if suggestions.unnamed:
        lines.append("# No word says anything of a category:")
        lines += [
            f"#   {_quoted(left.place)}  {left.objects:,} objects, {left.bytes:,} bytes, family {left.family}"
            for left in suggestions.unnamed[:SHOWN_UNNAMED]
        ]
    if len(suggestions.unnamed) > SHOWN_UNNAMED:
        lines.append(f"#   and {len(suggestions.unnamed) - SHOWN_UNNAMED:,} more folders")
    return "\n".join(lines) + "\n"


def _unsorted(keys: pa.ChunkedArray, config: FamilyConfig, words: CategoryWords) -> pa.ChunkedArray:
    """No rule matches them, none speaks of the family of their folder, and the folder is not named as a category is."""
    named = {rule.family for _, rule in config.rules} | set(words.categories)
    of_named = pc.is_in(config.family_column(keys), value_set=pa.array(sorted(named), pa.string()))
    return pc.and_(pc.is_null(config.rule_column(keys)), pc.invert(of_named))


def _place(key: str) -> str:
    """The first folder of a key with its tier, or the tier where it lies in none; with a slash at the end."""
    tier = next((tier for tier in TIERS if key.startswith(tier)), "")
    folder, slash, _ = key.removeprefix(tier).partition("/")
    return f"{tier}{folder}/" if slash and folder else tier


def _said(key: str, words: CategoryWords) -> _Said | None:
    place = _place(key)
    tier = next((tier for tier in TIERS if key.startswith(tier)), None)
    if tier is None:
        return None
    *folders, name = key.removeprefix(tier).split("/")
    hints = [(hint, depth) for depth, folder in enumerate(folders) if (hint := words.hint(folder))]
    if hints:
        hint, depth = min(hints, key=lambda found: (found[0].rank, found[1]))
        return _Said(key, place, hint, depth, of_file=False)
    hint = words.hint(name)
    return None if hint is None else _Said(key, place, hint, len(folders), of_file=True)


class _Group(NamedTuple):
    """Keys of one first folder that speak of one category.

    Attributes:
        order: Sorts rules as they have to stand: those of folders first, those of the category that counts first.
        family: That of the first folder by default.
        whole: It is that folder as a whole.
    """

    order: tuple[bool, int, str]
    category: str
    family: str
    match: tuple[str, ...]
    evidence: str
    whole: bool = False


def _groups(place: str, said: Sequence[_Said], *, of: Sequence[str]) -> Iterator[_Group]:
    by_category: dict[tuple[str, bool], list[_Said]] = defaultdict(list)
    for item in said:
        by_category[item.hint.category, item.of_file].append(item)
    first = UNSORTED if place in TIERS else slug(place.rstrip("/").rpartition("/")[2])
    for (category, of_file), found in by_category.items():
        texts = [_quoted(text) for text in sorted({item.hint.text for item in found})]
        own = not of_file and any(item.depth == 0 for item in found)
        most = len(found) == len(said) >= MOST_SAID * len(of) and place not in TIERS
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


def _globs(place: str, found: Sequence[_Said], *, of: Sequence[str]) -> tuple[str, ...]:
    """Of each key the shortest glob that takes nothing but what is meant."""
    meant = {item.key for item in found}
    others = pa.array([key for key in of if key not in meant], pa.string())

    @cache
    def fits(glob: str) -> bool:
        taken = pc.match_substring_regex(others, rf"\A(?:{glob_pattern(glob)})\z")
        return not pc.any(taken).as_py()

    globs = set()
    for item in found:
        *short, exact = _candidates(place, item)
        globs.add(next(filter(fits, short), exact))
    return tuple(sorted(globs))


def _candidates(place: str, item: _Said) -> tuple[str, str, str]:
    """Anywhere in the first folder; where it stands, whatever its numbers; itself."""
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
    """Groups of one name and category become one rule.

    Args:
        defaults: Families that folders have by default.
        configured: Families and datasets that rules have.
    """
    names: dict[tuple[str, str], str] = {}
    given: set[str] = set()
    together: dict[tuple[bool, int, str], list[_Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.order):
        wanted = (group.family, group.category)
        if wanted not in names:
            name = group.family
            # A folder keeps the name of its family, and only its category changes.
            if not group.whole or name in given | configured:
                stem = name = "_".join(wanted)
                number = 1
                while name in given | configured | defaults:
                    number += 1
                    name = f"{stem}_{number}"
            names[wanted] = name
            given.add(name)
        together[(*group.order[:2], names[wanted])].append(group)
    return [
        Suggestion(
            match=tuple(sorted({glob for group in same for glob in group.match})),
            category=same[0].category,
            family=name,
            dataset=name,
            evidence="; ".join(dict.fromkeys(group.evidence for group in same)),
        )
        for (_, _, name), same in together.items()
    ]


def _counted(
    rules: Sequence[Suggestion], *, inventory: pa.Table, unsorted: pa.Table, config: FamilyConfig
) -> Suggestions:
    """What each rule takes, and what all of them leave."""
    compiled = tuple(
        (
            re.compile("|".join(map(glob_pattern, rule.match))),
            FamilyRule(category=rule.category, family=rule.family, dataset=rule.dataset),
        )
        for rule in rules
    )
    whole = FamilyConfig(config.rules + compiled)
    takes = inventory.select(["size"]).append_column("rule", whole.rule_column(inventory["key"]))
    sums = {row["rule"]: row for row in _sums(takes, "rule")}
    counted = [
        replace(rule, objects=found["objects"], bytes=found["bytes"])
        for number, rule in enumerate(rules, start=len(config.rules))
        if (found := sums.get(number)) is not None
    ]
    left = unsorted.filter(pc.is_null(whole.rule_column(unsorted["key"])))
    places = pa.array([_place(key) for key in left["key"].to_pylist()], pa.string())
    unnamed = [
        Unnamed(
            row["place"],
            whole.rule_of(default_family(f"{row['place']}x")).family,
            row["objects"],
            row["bytes"],
        )
        for row in _sums(left.append_column("place", places), "place")
    ]
    return Suggestions(tuple(counted), tuple(unnamed))


def _sums(rows: pa.Table, by: str) -> list[dict[str, Any]]:
    sums: pa.Table = rows.group_by(by).aggregate([([], "count_all"), ("size", "sum")]).sort_by(by)
    return [*sums.rename_columns([by, "objects", "bytes"]).to_pylist()]


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1 << 30).strip()
