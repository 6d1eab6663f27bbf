"""Configuration of the S3 libraries: timeouts, retries, certificates."""

from datetime import timedelta
from typing import Any

from obstore.store import S3Store

from pixel_pipeline.lake.s3.target import Target

# Enough for a burst of 503. The libraries' default of three minutes is too long to wait at a wrong endpoint.
MAX_RETRIES = 8
MAX_BACKOFF_SECONDS = 2
RETRY_SECONDS = 30
CONNECT_SECONDS = 5
# Silence while we read. Not used for uploads: the client would count a slow one as silence.
STALL_SECONDS = 20
REQUEST_SECONDS = 120
# Longest read; STALL_SECONDS detects one that stops.
READ_SECONDS = 3600


def object_store(name: str, *, target: Target, timeout: float, read_timeout: float | None = None) -> S3Store:
    """Create the client of a bucket. Timeouts in seconds: of a whole request, and of silence within it."""
    client_options: dict[str, Any] = {
        "allow_http": target.allow_http,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=timeout),
    }
    if read_timeout is not None:
        client_options["read_timeout"] = timedelta(seconds=read_timeout)
    if target.ca_bundle is not None:
        client_options["root_certificate"] = target.ca_bundle.read_bytes()
    config: dict[str, Any] = {
        "access_key_id": target.access_key,
        "secret_access_key": target.secret_key.get_secret_value(),
        "region": target.region,
    }
    if target.session_token is not None:
        config["session_token"] = target.session_token.get_secret_value()
    if target.endpoint is not None:
        config["endpoint"] = target.endpoint
    if target.allow_http:
        # Elsewhere TLS protects uploads, and some stores refuse the header.
        config["checksum_algorithm"] = "SHA256"
    return S3Store(
        bucket=name,
        config=config,  # type: ignore[arg-type]
        client_options=client_options,  # type: ignore[arg-type]
        retry_config={
            "max_retries": MAX_RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=MAX_BACKOFF_SECONDS),
                "base": 2,
            },
        },
    )


def table_options(target: Target) -> dict[str, str]:
    """Return the options for delta-rs. They contain secrets and are never logged."""
    options = {
        "AWS_ACCESS_KEY_ID": target.access_key,
        "AWS_SECRET_ACCESS_KEY": target.secret_key.get_secret_value(),
        "AWS_REGION": target.region,
        "AWS_ALLOW_HTTP": "true" if target.allow_http else "false",
        # Commits are put-if-absent, which makes concurrent writers safe without a lock table.
        "AWS_CONDITIONAL_PUT": "etag",
        "max_retries": str(MAX_RETRIES),
        "retry_timeout": f"{RETRY_SECONDS}s",
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "timeout": f"{REQUEST_SECONDS}s",
    }
    if target.allow_http:
        options["AWS_CHECKSUM_ALGORITHM"] = "SHA256"
    if target.endpoint is not None:
        options["AWS_ENDPOINT_URL"] = target.endpoint
    if target.session_token is not None:
        options["AWS_SESSION_TOKEN"] = target.session_token.get_secret_value()
    return options
