"""What runs by the clock, and when it does not."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.sync.schedules import schedules
from pixel_pipeline.errors import SettingsError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline_tests.defs.loaded import defs


def tick(name: str, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2026, 1, 2, tzinfo=UTC),
        resources={"lake": LakeResource()},
    )
    (schedule,) = [item for item in defs.schedules if item.name == name]
    result = schedule(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def test_crons_and_time_zone_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    default = [(item.name, item.cron_schedule, item.execution_timezone) for item in schedules(Settings())]
    assert default == [
        ("sync_raw_schedule", "0 3 * * *", "UTC"),
        ("refresh_inventory_schedule", "*/30 * * * *", "UTC"),
    ]
    monkeypatch.setenv("PIXEL_SYNC_CRON", "@weekly")
    monkeypatch.setenv("PIXEL_INVENTORY_CRON", "5 4 * * 1-5")
    monkeypatch.setenv("PIXEL_TIMEZONE", "Europe/Paris")
    given = [(item.cron_schedule, item.execution_timezone) for item in schedules(get_settings())]
    assert given == [("@weekly", "Europe/Paris"), ("5 4 * * 1-5", "Europe/Paris")]


@pytest.mark.parametrize("cron", ["nightly", "0 3 * *", "61 * * * *", "* * * * * *"])
def test_a_cron_that_is_none_names_its_variable(cron: str) -> None:
    with pytest.raises(SettingsError, match="PIXEL_INVENTORY_CRON is not a cron expression"):
        schedules(Settings(inventory_cron=cron))


@pytest.mark.parametrize("name", ["Paris", "../../etc/passwd", "UTC+2"])
def test_a_time_zone_that_is_none_names_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXEL_TIMEZONE", name)
    with pytest.raises(SettingsError, match="PIXEL_TIMEZONE"):
        get_settings()


def test_they_run_by_themselves_only_where_a_drive_is_configured() -> None:
    for remote, status in (
        (None, dg.DefaultScheduleStatus.STOPPED),
        ("gdrive:", dg.DefaultScheduleStatus.RUNNING),
    ):
        assert {item.default_status for item in schedules(Settings(drive_remote=remote))} == {status}


def test_an_empty_lake_is_a_skip(lake: Lake, tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert isinstance(tick("refresh_inventory_schedule", instance), dg.SkipReason)
        lake.data.put("acquired/x.csv", b"a,b")
        assert isinstance(tick("refresh_inventory_schedule", instance), dg.RunRequest)
        assert isinstance(tick("sync_raw_schedule", instance), dg.RunRequest)


@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED], ids=lambda s: s.value
)
def test_one_run_waits_not_one_of_each_tick(lake: Lake, tmp_path: Path, status: dg.DagsterRunStatus) -> None:
    lake.data.put("acquired/x.csv", b"a,b")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = defs.resolve_job_def("sync_raw")
        instance.create_run_for_job(job, status=status)
        assert isinstance(tick("sync_raw_schedule", instance), dg.SkipReason)
        assert isinstance(tick("refresh_inventory_schedule", instance), dg.RunRequest)
