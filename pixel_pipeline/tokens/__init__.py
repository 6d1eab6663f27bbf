"""Packed token shards of curated conversations."""
