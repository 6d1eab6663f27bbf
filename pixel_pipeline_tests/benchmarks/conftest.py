"""A lake that the workers of the benchmarks can find."""

import pytest

from pixel_pipeline.lake.lake import Lake


@pytest.fixture
def worker_lake(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The test's lake, configured by the standard AWS variables."""
    target = lake.target
    assert target.endpoint is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", target.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", target.secret_key.get_secret_value())
    monkeypatch.setenv("AWS_REGION", target.region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", target.region)
    monkeypatch.setenv("AWS_ENDPOINT_URL", target.endpoint)
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", target.endpoint)
    return lake
