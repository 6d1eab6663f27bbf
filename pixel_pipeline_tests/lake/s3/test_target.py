"""The lake's credentials: clients get them, and no printed value shows them."""

from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from pprint import pformat

from hypothesis.vendor.pretty import pretty
from pydantic import BaseModel
import pytest

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.control import control_client
from pixel_pipeline.lake.s3.target import Target
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import open_rclone

SECRET, TOKEN = "planted-secret-key", "planted-session-token"


def printed(value: object) -> Iterator[str]:
    """A value as people and test tools print it; hypothesis ignores `__repr__` and prints each field of a dataclass."""
    yield from (repr(value), str(value), pformat(value), pretty(value))
    if is_dataclass(value) and not isinstance(value, type):
        yield from (repr(getattr(value, each.name)) for each in fields(value))
    if isinstance(value, Target):
        yield repr(asdict(value))
    if isinstance(value, BaseModel):
        yield from (repr(value.model_dump()), value.model_dump_json())


@pytest.fixture
def configured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("RCLONE_CONFIG_GDRIVE_TOKEN", SECRET)
    return get_settings()


def test_nothing_that_holds_a_secret_prints_it(configured: Settings) -> None:
    lake = Lake.open(configured)
    with open_rclone(lake, SyncOptions()) as rclone:
        holders = [
            configured,
            configured.credentials(),
            lake.target,
            lake,
            lake.data,
            lake.data.store,
            lake.conditional,
            Table(lake, "table"),
            control_client(lake.target),
            rclone,
        ]
        for holder in holders:
            for text in printed(holder):
                assert SECRET not in text, type(holder)
                assert TOKEN not in text, type(holder)
        given = rclone.environment.get_secret_value()
    assert given["RCLONE_CONFIG_PIXELLAKE_SECRET_ACCESS_KEY"] == SECRET
    assert given["RCLONE_CONFIG_PIXELLAKE_SESSION_TOKEN"] == TOKEN
    assert lake.storage_options()["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert lake.storage_options()["AWS_SESSION_TOKEN"] == TOKEN
    assert lake.data.store.config["secret_access_key"] == SECRET  # type: ignore[typeddict-item]
    assert lake.data.store.config["session_token"] == TOKEN  # type: ignore[typeddict-item]


def test_the_embedded_server_prints_no_secret(session_home: Path, lake: Lake) -> None:
    running = embedded.ensure_running(session_home)
    secret = running.secret_key.get_secret_value()
    assert lake.target.secret_key.get_secret_value() == secret
    for holder in (running, lake, lake.target, lake.data):
        for text in printed(holder):
            assert secret not in text, type(holder)
