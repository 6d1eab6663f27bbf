"""Formats with a list of turns."""
