"""Errors name the setting or object and the next step, and never exit with 0."""

from collections.abc import Iterator
import os
from pathlib import Path
import signal
import socket
import time

import pytest

from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.curation.accounts import read_accounts, unaccounted_objects
from pixel_pipeline.lake import embedded, keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import Settings
from pixel_pipeline_tests.activated import shell, start

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDPLANTED", "AWS_SECRET_ACCESS_KEY": "planted-secret-of-nobody"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("faults")
    embedded.ensure_running(folder)
    yield folder
    embedded.stop(folder)


def test_training_on_an_empty_lake_names_the_job_to_run_first(home: Path) -> None:
    result = shell("dagster job execute -j train_moe", home=home)
    assert result.code != 0
    assert "dagster job execute -j prepare_data" in result.text
    assert "make demo" in result.text


def test_preparing_an_empty_lake_names_the_verb_that_fills_it(home: Path) -> None:
    result = shell("dagster job execute -j prepare_data", home=home)
    assert result.code != 0
    assert "pixel ingest PATH" in result.text


def test_syncing_without_a_drive_names_the_setting(home: Path) -> None:
    result = shell("dagster job execute -j sync_raw", home=home)
    assert result.code != 0
    assert "PIXEL_DRIVE_REMOTE" in result.text


def test_an_unreachable_endpoint_is_named(home: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for command in ("dagster job execute -j prepare_data", "pixel status"):
        result = shell(command, home=home, PIXEL_S3_ENDPOINT=endpoint, **KEYS)
        assert result.code != 0
        assert endpoint in result.text
        assert "PIXEL_S3_ENDPOINT" in result.text
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in result.text


def test_a_wrong_key_names_its_variable(home: Path) -> None:
    server = embedded.ensure_running(home)
    for command in ("dagster job execute -j prepare_data", "pixel status"):
        result = shell(command, home=home, PIXEL_S3_ENDPOINT=server.endpoint, **KEYS)
        assert result.code != 0
        assert "AWS_ACCESS_KEY_ID" in result.text
        assert KEYS["AWS_ACCESS_KEY_ID"] not in result.text
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in result.text


def test_a_missing_bucket_is_named(home: Path) -> None:
    server = embedded.ensure_running(home)
    variables = {
        "PIXEL_S3_ENDPOINT": server.endpoint,
        "OVH_S3_ACCESS_KEY": server.access_key,
        "OVH_S3_SECRET_KEY": server.secret_key.get_secret_value(),
        "PIXEL_BUCKET": "nobody-made-this",
    }
    result = shell("dagster job execute -j prepare_data", home=home, **variables)
    assert result.code != 0
    assert "nobody-made-this does not exist" in result.text
    assert "PIXEL_BUCKET" in result.text
    assert server.secret_key.get_secret_value() not in result.text


def test_half_a_key_pair_names_the_other_half(home: Path) -> None:
    result = shell("pixel status", home=home, OVH_S3_ACCESS_KEY="only-this")
    assert result.code == 2
    assert "OVH_S3_SECRET_KEY" in result.text
    assert "only-this" not in result.text


def test_a_full_disk_is_reported_before_anything_starts(tmp_path: Path) -> None:
    result = shell("pixel s3 up", home=tmp_path, PIXEL_MIN_FREE_BYTES=str(1 << 60))
    assert result.code == 2
    assert "PIXEL_HOME" in result.text
    assert embedded.status(tmp_path) is None


def test_the_h100_profile_refuses_other_machines(home: Path) -> None:
    # The device is checked before any shard is read, so a manifest is enough.
    store = _lake(home)
    manifest = '{"format": "pixel-token-shards/2", "dataset_version": "x", "sequence_length": 8, "base": null, "base_digest": null, "chat_template": "chatml", "splits": {}, "families": {}, "tokenizer": {"key": "k", "sha256": "s", "digest": "d", "vocab_size": 300, "pad_id": 0, "eos_id": 2}}'
    store.data.put("tokens/d/x/manifest.json", manifest.encode())
    store.data.put_json(keys.CURRENT_TOKENS, {"manifest": "tokens/d/x/manifest.json"})
    try:
        result = shell("dagster job execute -j train_moe", home=home, PIXEL_PROFILE="h100")
    finally:
        store.data.delete([keys.CURRENT_TOKENS])
    assert result.code != 0
    assert "needs an NVIDIA H100" in result.text
    assert "PIXEL_PROFILE=demo" in result.text


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_a_stopped_job_leaves_whole_tables_and_the_next_one_completes(
    tmp_path: Path, kind: signal.Signals
) -> None:
    home = tmp_path
    try:
        assert shell("pixel sample --conversations 800", home=home).code == 0
        assert shell("dagster job execute -j sync_raw", home=home).code == 0
        for delay in (4.0, 5.5, 7.0):
            process = start("dagster job execute -j prepare_data", home=home)
            time.sleep(delay)
            os.killpg(process.pid, kind)
            process.communicate(timeout=60)
            assert process.returncode != 0 or delay > 4
            store = _lake(home)
            # At every stage, each visible table can be read whole.
            for key in (keys.INVENTORY, keys.LEDGER, keys.QUARANTINE, keys.DROPPED, keys.CURATED):
                table = Table(store, key)
                assert not table.exists() or table.dataset().to_table().num_rows >= 0
        result = shell("dagster job execute -j prepare_data", home=home)
        assert result.code == 0, result.text[-3000:]
        assert "check conservation passed" in result.text
        accounts = read_accounts(store, FamilyConfig())
        assert sum(account.curated.total() for account in accounts.values()) > 600
        assert unaccounted_objects(store) == []
    finally:
        embedded.stop(home)


def _lake(home: Path) -> Lake:
    return Lake.open(Settings(home=home))
