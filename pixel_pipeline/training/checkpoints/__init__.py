"""Checkpoints: written, uploaded, verified, listed."""
