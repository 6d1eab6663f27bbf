"""Partitions shared by assets."""

import dagster as dg

FAMILIES = dg.DynamicPartitionsDefinition(name="family")
"""One partition per dataset family. `raw_inventory` adds and removes them."""


def known_families(instance: dg.DagsterInstance) -> set[str]:
    """The families that are partitions now."""
    return set(instance.get_dynamic_partitions(FAMILIES.name or ""))


def sync_partitions(instance: dg.DagsterInstance, *, present: set[str]) -> None:
    """Add and remove partitions until they are the families found in raw."""
    known = known_families(instance)
    instance.add_dynamic_partitions(FAMILIES.name or "", sorted(present - known))
    for family in sorted(known - present):
        instance.delete_dynamic_partition(FAMILIES.name or "", family)
