"""`python -m pixel_pipeline.cli`."""

from pixel_pipeline.cli import main

main()
