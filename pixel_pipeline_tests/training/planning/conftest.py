"""Models whose cost is counted."""

from pixel_pipeline_tests.training.model.conftest import base_of  # noqa: F401
