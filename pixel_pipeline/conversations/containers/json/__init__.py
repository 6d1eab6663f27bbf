"""JSON documents, arrays and lines."""
