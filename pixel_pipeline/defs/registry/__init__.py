"""The dataset registry."""
