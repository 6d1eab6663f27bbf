"""Plans a run: measured speed, memory, time."""
