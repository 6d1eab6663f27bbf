"""Verbs about training runs and their checkpoints."""
