"""Executors. A task is a plain value and its function is pure, so every executor gives the same results."""
