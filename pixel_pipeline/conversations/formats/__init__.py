"""Formats: how one record becomes turns."""
