"""Configuration of a run. Torch-free."""
