"""The sync in Dagster: retries, the table of its report, the check, and no secret anywhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest

from pixel_pipeline.defs.io_manager import S3ParquetIOManager
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.sync import assets
from pixel_pipeline.defs.sync.assets import gdrive_sync, sync_report
from pixel_pipeline.defs.sync.checks import complete
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.sync import drive as drive_module
from pixel_pipeline.sync import rclone
from pixel_pipeline_tests.faults import Fault, FaultProxy

SECRET = "planted-secret-of-a-service-account"


@pytest.fixture
def proxy(lake: Lake) -> Iterator[FaultProxy]:
    with FaultProxy(upstream=urlsplit(lake.target.endpoint or "").port or 0) as running:
        yield running


@pytest.fixture
def drive(lake: Lake, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIXEL_DRIVE_REMOTE: three files in another bucket, behind the proxy."""
    for name in ("a.json", "b.json", "c.json"):
        lake.checkpoints.put(f"Team/{name}", b"{}")
    for option, value in {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": proxy.endpoint,
        "ACCESS_KEY_ID": lake.target.access_key,
        "SECRET_ACCESS_KEY": lake.target.secret_key.get_secret_value(),
        "SERVICE_ACCOUNT_CREDENTIALS": SECRET,
    }.items():
        monkeypatch.setenv(f"RCLONE_CONFIG_GDRIVE_{option}", value)
    monkeypatch.setenv("PIXEL_DRIVE_REMOTE", f"gdrive:{lake.checkpoints.name}/Team")
    monkeypatch.setattr(rclone, "REQUEST_TRIES", 1)


def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    resource = LakeResource()
    return (
        dg.Definitions(
            assets=[gdrive_sync, sync_report],
            asset_checks=[complete],
            resources={"lake": resource, "io_manager": S3ParquetIOManager(lake=resource)},
        )
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(instance=instance, raise_on_error=False)
    )


def verdict(result: dg.ExecuteInProcessResult) -> Any:
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


@pytest.mark.usefixtures("drive")
def test_a_sync_its_report_and_its_check(lake: Lake) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance)
    assert result.success
    assert verdict(result).passed
    assert verdict(result).description == "all 3 files are in raw; sizes and hashes agree"
    facts = metadata(result, "gdrive_sync")
    assert (facts["copied"], facts["copied (MB)"], facts["failed"]) == (3, 6e-6, 0)
    assert facts["uri"] == lake.data.uri(keys.RAW)
    assert Table(lake, keys.SYNC_REPORT).row_count() == 3


@pytest.mark.usefixtures("drive")
def test_a_file_that_is_refused_fails_the_check_alone(lake: Lake, proxy: FaultProxy) -> None:
    proxy.always = Fault("status", status=403, code="AccessDenied", on=r"^GET /.*/Team/b.json")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance)
    assert result.success
    assert not verdict(result).passed
    assert verdict(result).severity == dg.AssetCheckSeverity.ERROR
    assert not verdict(result).blocking
    assert "| b.json | failed | permission |" in verdict(result).metadata["problems"].value
    assert "| b.json | failed | permission |" in metadata(result, "sync_report")["problems"]
    assert [item.key for item in lake.data.list(keys.RAW)] == [f"{keys.RAW}/a.json", f"{keys.RAW}/c.json"]


@pytest.mark.usefixtures("drive")
def test_a_drive_that_does_not_answer_is_asked_again(
    lake: Lake, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    def sync_drive(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            proxy.always = None
        return drive_module.sync_drive(*arguments, **options)

    monkeypatch.setattr(assets, "sync_drive", sync_drive)
    monkeypatch.setattr(assets, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr("pixel_pipeline.sync.copy.time.sleep", lambda seconds: None)
    proxy.always = Fault("reset")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance)
    assert result.success
    assert attempts == 3
    assert len([*lake.data.list(keys.RAW)]) == 3


@pytest.mark.usefixtures("drive")
def test_a_wrong_setting_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXEL_DRIVE_REMOTE", "no_such_remote:")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance)
    assert not result.success
    events = [event.event_type_value for event in result.all_events]
    assert "STEP_UP_FOR_RETRY" not in events
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "RCLONE_CONFIG" in str(failure.step_failure_data.user_failure_data)


@pytest.mark.usefixtures("drive")
def test_no_secret_is_in_events_or_output(
    lake: Lake,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RCLONE_VERBOSE", "2")
    monkeypatch.setenv("RCLONE_DUMP", "headers,auth")
    proxy.always = Fault("status", status=403, code="AccessDenied", on=r"^GET /.*/Team/b.json")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert run(instance).success
        proxy.always = Fault("status", status=403, code="AccessDenied")
        assert not run(instance).success
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(content.startswith(b"SQLite") for content in kept)
    kept += ["".join(capfd.readouterr()).encode(), lake.data.get(keys.LAST_SYNC)]
    assert any(b"permission" in content for content in kept)
    for secret in (SECRET, lake.target.secret_key.get_secret_value(), lake.target.access_key):
        assert not any(secret.encode() in content for content in kept)
