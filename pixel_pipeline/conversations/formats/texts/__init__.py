"""Formats with a whole conversation in one text."""
