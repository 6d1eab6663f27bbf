"""Curated conversations to token shards."""
