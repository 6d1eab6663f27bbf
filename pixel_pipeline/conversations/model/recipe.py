"""The version of the conversion recipe."""

RECIPE_VERSION = "conversion-1"
"""Raise it when a change gives the same object other rows: every object is then converted again.

The column `code_version` of rows, quarantine and ledger holds it. The golden tests fail if rows change and the version does not.
"""
