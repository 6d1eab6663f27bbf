"""How old each asset may be before the UI says so. A run that finds nothing new makes its asset fresh again."""

from datetime import timedelta

import dagster as dg

GDRIVE_SYNC = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=49), warn_window=timedelta(hours=26))
"""Synced every night: one missed night warns, two fail."""

RAW_INVENTORY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=26), warn_window=timedelta(hours=2)
)
"""Listed every half hour, and after each sync. A long training run may hold the queue: hours without are no failure."""

DATASET_REGISTRY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=30), warn_window=timedelta(days=14)
)
"""Made when data changes: a fortnight without is worth a look, for a Drive may have run dry unnoticed."""

MOE_CHECKPOINT = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=90), warn_window=timedelta(days=45)
)
"""Trained by hand."""
