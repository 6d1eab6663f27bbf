"""Vacuum deletes files that no version needs any more, and no others."""

from dataclasses import replace
from datetime import timedelta

import orjson
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from pixel_pipeline.cli import app
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.log import files_of
from pixel_pipeline.lake.tables.table import Table, VersionGoneError
from pixel_pipeline.lake.tables.vacuum import vacuum, vacuum_all

NONE = timedelta(0)


def versions(table: Table, count: int) -> None:
    for number in range(count):
        table.overwrite(pa.table({"part": ["it's ü"], "n": [number]}), partition_by="part")


def files(lake: Lake, key: str) -> set[str]:
    return {item.key for item in lake.data.list(key) if "_delta_log" not in item.key}


def test_an_age_below_the_floor_is_refused(lake: Lake) -> None:
    table = Table(lake, "table")
    versions(table, 2)
    with pytest.raises(
        PixelError, match=r"files older than 1:00:00 is refused; the minimum is 1 day, 0:00:00"
    ):
        vacuum(table, older_than=timedelta(hours=1), dry_run=False)
    assert len(files(lake, "table")) == 2


def test_files_of_old_versions_and_of_killed_writers_are_deleted(lake: Lake) -> None:
    table = Table(lake, "table")
    versions(table, 3)
    lake.data.put("table/part=x/uncommitted.parquet", b"1234")
    before = files(lake, "table")
    would = vacuum(table, older_than=NONE, floor=NONE)
    assert files(lake, "table") == before
    did = vacuum(table, older_than=NONE, floor=NONE, dry_run=False)
    assert did == would
    assert (did.table, did.files) == ("table", 3)
    assert files(lake, "table") == {f"table/{path}" for path, _ in files_of(table.open())}
    assert did.bytes > 4
    assert table.read()["n"].to_pylist() == [2]
    assert table.version() == 2
    with pytest.raises(VersionGoneError, match="Versions 2 to 2 can be read"):
        table.dataset(version=1)
    assert vacuum(table, older_than=NONE, floor=NONE) == replace(did, files=0, bytes=0)
    assert lake.data.exists("table/_delta_log/_last_checkpoint")


def test_recently_superseded_or_written_files_stay(lake: Lake) -> None:
    """A reader may be using the one, and a writer be about to commit the other."""
    table = Table(lake, "table")
    versions(table, 3)
    lake.data.put("table/uncommitted.parquet", b"1234")
    assert vacuum(table, older_than=timedelta(minutes=1), floor=NONE, dry_run=False).files == 0
    assert len(files(lake, "table")) == 4
    assert table.read(version=0)["n"].to_pylist() == [0]


def test_a_table_within_a_table_is_left_alone(lake: Lake) -> None:
    outer, inner = Table(lake, "table"), Table(lake, "table/inner")
    versions(outer, 1)
    versions(inner, 1)
    assert vacuum(outer, older_than=NONE, floor=NONE, dry_run=False).files == 0
    assert inner.row_count() == 1


def test_all_tables_are_found_and_the_command_lists_them(lake: Lake) -> None:
    tables = [f"{keys.PROCESSED}/priority/calm", keys.CURATED, keys.LEDGER]
    for key in tables:
        versions(Table(lake, key), 2)
    lake.data.put("gdrive/raw/_delta_log/fake.json", b"{}")
    assert [done.table for done in vacuum_all(lake)] == sorted(tables)
    result = CliRunner().invoke(app, ["vacuum", "--dry-run", "--json"])
    assert result.exit_code == 0
    result_json = orjson.loads(result.stdout)
    assert result_json["dry_run"] is True
    assert [done["table"] for done in result_json["tables"]] == sorted(tables)
    assert CliRunner().invoke(app, ["vacuum", "--days", "0.5"]).exit_code == 2
