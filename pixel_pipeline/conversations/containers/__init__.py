"""Containers: how the bytes of an object become records."""
