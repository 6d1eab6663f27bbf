"""The definitions of the project, loaded once."""

from pixel_pipeline import definitions

defs = definitions.defs()
