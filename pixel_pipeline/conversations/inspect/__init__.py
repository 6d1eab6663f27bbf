"""Explains how a file is read, for `pixel detect`."""
