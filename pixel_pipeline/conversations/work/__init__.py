"""A family's tasks: planned, run, reused and committed."""
