"""Lists the families with their raw objects, and the reason the objects belong to them."""

from dataclasses import dataclass

import pyarrow as pa

from pixel_pipeline.conversations.families.config import UNSORTED, FamilyConfig


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """One family.

    Attributes:
        rules: Numbers of its rules in families.yaml, from 1; empty if it is named after a folder.
        objects, bytes: Number and size of its raw objects.
        by_rule: Number of objects that match one of the rules.
    """

    family: str
    category: str
    dataset: str
    objects: int
    bytes: int
    rules: tuple[int, ...]
    by_rule: int

    @property
    def why(self) -> str:
        """Why the objects belong to it: its rules, its folder, or both."""
        numbers = f"rule {', '.join(map(str, self.rules))}" if self.rules else ""
        if self.rules and self.by_rule == self.objects:
            return numbers
        by_name = "in no folder" if self.family == UNSORTED else "its folder"
        return f"{numbers}, {by_name}" if numbers else by_name


def list_families(inventory: pa.Table, config: FamilyConfig) -> list[FamilyFacts]:
    """List the families of an inventory and of families.yaml, sorted by name.

    Args:
        inventory: Table with the columns key and size.
    """
    rows = pa.table(
        {
            "family": config.family_column(inventory["key"]),
            "rule": config.rule_column(inventory["key"]),
            "size": inventory["size"],
        }
    )
    sums = rows.group_by("family").aggregate([([], "count_all"), ("rule", "count"), ("size", "sum")])
    found = {row["family"]: row for row in sums.to_pylist()}
    names = sorted({*found, *(rule.family for _, rule in config.rules)})
    nothing = {"count_all": 0, "rule_count": 0, "size_sum": 0}
    families = []
    for name in names:
        rule, counted = config.rule_of(name), found.get(name, nothing)
        families.append(
            FamilyFacts(
                family=name,
                category=rule.category,
                dataset=rule.dataset,
                objects=counted["count_all"],
                bytes=counted["size_sum"],
                rules=tuple(n for n, (_, given) in enumerate(config.rules, 1) if given.family == name),
                by_rule=counted["rule_count"],
            )
        )
    return families
