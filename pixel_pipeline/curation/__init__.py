"""Curation of canonical conversations: drop duplicates, assign splits, account for every record."""
