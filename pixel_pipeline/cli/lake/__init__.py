"""Verbs about data in the lake."""
