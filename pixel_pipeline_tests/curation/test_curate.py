"""Taken: being written."""
