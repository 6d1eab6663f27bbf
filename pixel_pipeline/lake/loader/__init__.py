"""Datasets by name: resolving, streaming, decompressing and caching them."""
