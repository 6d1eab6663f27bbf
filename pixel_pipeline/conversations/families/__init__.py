"""Families: rules in families.yaml, and proposals for new ones."""
