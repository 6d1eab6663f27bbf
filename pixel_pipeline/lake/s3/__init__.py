"""One S3 server: its address, clients, buckets, errors and listings."""
