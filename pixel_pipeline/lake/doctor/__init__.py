"""Probes of the lake, for `pixel doctor`."""
