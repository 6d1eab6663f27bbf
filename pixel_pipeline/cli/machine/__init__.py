"""Verbs about the machine: the demo, checks, the embedded server."""
