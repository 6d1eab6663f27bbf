"""Dagster: thin assets, checks, jobs and resources over the plain modules."""
