"""Promotion: gates, and the record of the checkpoint in use."""
