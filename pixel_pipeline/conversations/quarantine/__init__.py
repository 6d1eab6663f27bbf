"""Quarantined records: reading them, and error budgets."""
