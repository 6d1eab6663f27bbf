"""Freshness policies: how old an asset may become before the UI warns. A run that finds nothing new refreshes the asset."""

from datetime import timedelta

import dagster as dg

SYNC = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=49), warn_window=timedelta(hours=26))
"""The Drive is synced every night: one missed night warns, two fail."""

INVENTORY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=2))
"""The raw tiers are listed every half hour and after each sync. A long training run may delay the listing by hours."""

DATA = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=30), warn_window=timedelta(days=14))
"""Conversations and everything derived from them change with the Drive: two quiet weeks may mean that the sync finds nothing."""

MODEL = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=90), warn_window=timedelta(days=45))
"""Tokens, checkpoints and evaluations are made by hand."""

PROMOTED = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=365), warn_window=timedelta(days=180))
"""Models are promoted rarely."""
