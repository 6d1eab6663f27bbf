"""Exports base and adapters as checkpoints for other programs, and verifies that they are the same model."""
