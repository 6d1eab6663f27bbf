"""Base models: dense checkpoints in the lake that adapters are trained on."""
