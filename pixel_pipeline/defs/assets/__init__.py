"""One module an area of the lake."""
