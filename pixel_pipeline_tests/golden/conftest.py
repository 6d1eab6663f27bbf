"""The fixtures of a tiny training run."""

from pixel_pipeline_tests.training.conftest import adapted, base, cache, config, manifest_key

__all__ = ["adapted", "base", "cache", "config", "manifest_key"]
