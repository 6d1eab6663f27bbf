"""Verbs about trained models."""
