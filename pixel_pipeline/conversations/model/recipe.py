"""The version of the conversion recipe."""

RECIPE_VERSION = "conversion-1"
"""Raise it when the same object gives other rows: everything is then converted again.

Rows, quarantine and ledger record it in their column `code_version`. The golden tests fail when rows change and the version
does not.
"""
