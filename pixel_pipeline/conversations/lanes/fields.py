"""Records with one question and one answer in fields of their own."""

from typing import Any

from pixel_pipeline.conversations.lanes.shape import Lane
from pixel_pipeline.conversations.options import ConversionOptions


def lane_of(record: dict[str, Any], options: ConversionOptions) -> Lane | None:
    return None
