"""Promotion: the deliberate step by which one checkpoint becomes the one that is used."""
