"""Partitions shared by assets."""

import dagster as dg

FAMILIES = dg.DynamicPartitionsDefinition(name="family")
"""One partition a dataset family; `raw_inventory` adds and removes them."""
