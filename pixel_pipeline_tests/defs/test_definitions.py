"""The definitions that Dagster loads."""

import json
import os
from pathlib import Path
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request

import dagster as dg
import pytest
import yaml

from pixel_pipeline.settings import project_root
from pixel_pipeline_tests.activated import shell, start
from pixel_pipeline_tests.defs.loaded import defs

GRAPH = {
    "gdrive_sync": set(),
    "sync_report": {"gdrive_sync"},
    "raw_inventory": {"gdrive_sync"},
    "conversations": {"raw_inventory"},
    "curated": {"conversations"},
    "dataset_registry": {"curated"},
    "token_shards": {"curated", "dataset_registry"},
    "moe_checkpoint": {"token_shards"},
    "evaluation": {"moe_checkpoint"},
    "promoted_model": {"evaluation"},
}
JOBS = {
    "sync_raw": {"gdrive_sync", "sync_report", "raw_inventory"},
    "refresh_inventory": {"raw_inventory"},
    "prepare_data": {"raw_inventory", "conversations", "curated", "dataset_registry", "token_shards"},
    "train_moe": {"moe_checkpoint", "evaluation"},
    "promote_model": {"promoted_model"},
}

KEYS = """
from pixel_pipeline.definitions import defs
print(*(key.to_user_string() for key in defs().resolve_all_asset_keys()))
"""


@pytest.fixture(scope="module")
def asset_graph() -> dg.AssetsDefinition:
    return defs.resolve_asset_graph()


def test_the_graph_is_the_documented_one(asset_graph) -> None:
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in asset_graph.get(key).parent_keys}
        for key in asset_graph.get_all_asset_keys()
    }
    assert found == GRAPH


def test_every_asset_is_described(asset_graph) -> None:
    for key in asset_graph.get_all_asset_keys():
        node = asset_graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert node.code_version, key
        assert node.freshness_policy is not None, key
        assert node.group_name != "default", key
        (reference, *_) = node.metadata["dagster/code_references"].code_references
        assert "defs/" in reference.source, key


def test_every_column_is_described(asset_graph) -> None:
    found = {}
    for key in asset_graph.get_all_asset_keys():
        schema = asset_graph.get(key).metadata.get("dagster/column_schema")
        if schema is not None:
            found[key.to_user_string()] = {column.name: column.description for column in schema.columns}
            # The UI cuts longer types.
            assert all(len(column.type) <= 24 for column in schema.columns), key
    assert set(found) == {"sync_report", "raw_inventory", "conversations", "curated"}
    assert all(description for columns in found.values() for description in columns.values())


def test_jobs_select_the_documented_assets() -> None:
    for name, assets in JOBS.items():
        job = defs.resolve_job_def(name)
        selected = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        assert selected == assets, name


def test_only_conservation_and_the_gates_of_promotion_block(asset_graph) -> None:
    checks = {key.to_user_string(): asset_graph.get(key).blocking for key in asset_graph.asset_check_keys}
    assert checks == {
        "gdrive_sync:complete": False,
        "raw_inventory:raw_keys": False,
        "conversations:error_budget": False,
        "curated:conservation": True,
        "promoted_model:no_regression": True,
        "promoted_model:no_dead_expert": True,
        "promoted_model:safety_smoke_test": True,
        "promoted_model:export_verified": True,
    }


def test_sensors_and_schedules_start_switched_off_without_a_drive(tmp_path: Path) -> None:
    code = (
        "import json; from pixel_pipeline.definitions import defs; loaded = defs();"
        "print(json.dumps({item.name: item.default_status.value for item in [*loaded.schedules, *loaded.sensors]}))"
    )
    names = ("sync_raw_schedule", "refresh_inventory_schedule", "raw_changes", "automation")
    for remote, status in (("", "STOPPED"), ("gdrive:", "RUNNING")):
        result = shell(f"python -c '{code}'", home=tmp_path, PIXEL_DRIVE_REMOTE=remote)
        assert json.loads(result.stdout) == dict.fromkeys(names, status), result.text


def test_workspace_and_dg_name_one_module() -> None:
    root = project_root()
    workspace = yaml.safe_load((root / "workspace.yaml").read_text())
    project = tomllib.loads((root / "dg.toml").read_text())["project"]
    module = workspace["load_from"][0]["python_module"]["module_name"]
    assert module == "pixel_pipeline.definitions"
    assert project["code_location_target_module"] == module
    assert f'"{module}"' in (root / "scripts" / "environment.sh").read_text()


def test_a_scaffolded_file_is_loaded(tmp_path: Path) -> None:
    """Also without pyproject.toml, as where the wheel is installed."""
    root = project_root()
    shutil.copytree(
        root / "pixel_pipeline", tmp_path / "pixel_pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(root / "dg.toml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PIXEL_HOME": str(tmp_path / "home")}
    dg_command = Path(sys.executable).parent / "dg"
    for command in (
        [str(dg_command), "scaffold", "defs", "dagster.asset", "extra/thing.py"],
        [sys.executable, "-W", "ignore", "-c", KEYS],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert set(done.stdout.split()) == {*GRAPH, "thing"}


def test_only_the_compute_log_manager_uses_private_modules_of_dagster() -> None:
    package = project_root() / "pixel_pipeline"
    private = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(from|import) dagster\._", path.read_text(encoding="utf-8"), re.M)
    }
    assert private == {"defs/compute_logs.py"}


def test_the_code_server_imports_nothing_heavy() -> None:
    heavy = {"torch", "lightning", "transformers", "matplotlib", "pandas"}
    code = f"import sys; from pixel_pipeline.definitions import defs; defs(); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_nothing_calls_home() -> None:
    instance = yaml.safe_load((project_root() / "dagster.yaml").read_text())
    assert instance["telemetry"] == {"enabled": False}
    assert instance["nux"] == {"enabled": False}
    assert instance["freshness"] == {"enabled": True}
    # Would keep the instance from loading with a launcher that cannot resume runs.
    assert instance["run_monitoring"].get("max_resume_run_attempts", 0) == 0


@pytest.mark.parametrize(
    "command", ["dagster job list", "dagster definitions validate", "dg check defs", "dagster asset list"]
)
def test_every_way_of_loading_the_project_agrees(command: str, tmp_path: Path) -> None:
    result = shell(command, home=tmp_path)
    assert result.code == 0, result.text
    for name in {"dagster job list": JOBS, "dagster asset list": GRAPH}.get(command, {}):
        assert name in result.stdout


def test_the_webserver_and_daemon_come_up_in_the_activated_environment(tmp_path: Path) -> None:
    """A module name in the general variable keeps the webserver from starting, and `dagster dev` hangs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(f"dagster dev --host 127.0.0.1 --port {port}", home=tmp_path)
    try:
        deadline = time.monotonic() + 120
        answer = None
        while answer is None and time.monotonic() < deadline and process.poll() is None:
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5).status
            except OSError:
                time.sleep(0.5)
        assert answer == 200
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


def test_runs_that_must_not_overlap_share_a_pool(asset_graph) -> None:
    """In production several runs go at once: one changes the lake, one trains."""
    pools = {key.to_user_string(): asset_graph.get(key).pools for key in asset_graph.get_all_asset_keys()}
    heavy = JOBS["train_moe"] | JOBS["promote_model"]
    assert {name for name, pool in pools.items() if pool == {"gpu"}} == heavy
    assert all(pool == {"lake-writer"} for name, pool in pools.items() if name not in heavy)
