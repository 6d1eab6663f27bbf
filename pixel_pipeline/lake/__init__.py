"""S3 and nothing else: the object store, its layout, tables, the embedded server."""
