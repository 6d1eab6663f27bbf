"""Token shards as batches of packed rows."""
