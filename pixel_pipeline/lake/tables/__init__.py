"""Delta tables: files, log, schema, reading, vacuum."""
