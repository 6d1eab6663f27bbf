"""Arrow IPC and Parquet."""
