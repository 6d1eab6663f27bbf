"""The converter's version: when its code changes, objects are converted again."""

from pixel_pipeline.code_version import code_version

CODE_VERSION = code_version("pixel_pipeline.conversations")
