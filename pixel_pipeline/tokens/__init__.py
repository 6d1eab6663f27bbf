"""From curated conversations to packed token shards."""
