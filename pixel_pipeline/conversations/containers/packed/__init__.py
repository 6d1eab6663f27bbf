"""Archives, compressed objects and Office documents."""
