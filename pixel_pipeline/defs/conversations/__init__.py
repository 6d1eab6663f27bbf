"""Raw objects to conversations."""
