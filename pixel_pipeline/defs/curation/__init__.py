"""Conversations to curated conversations."""
