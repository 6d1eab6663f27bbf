"""Pixel Pipeline: from a messy Drive of conversations to a trustworthy lake and mixture-of-experts checkpoints."""

__version__ = "0.1.0"
