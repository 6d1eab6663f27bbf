"""The Dagster instances: the one in the project's root, and production's on a real PostgreSQL and S3 over TLS."""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import subprocess
import sys

import psycopg2
import pytest
import yaml

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings, project_root
from pixel_pipeline_tests.faults import FaultProxy, make_authority
from pixel_pipeline_tests.postgres import postgres_server

DEPLOY = project_root() / "deploy"
PASSWORD = "plantedPostgresPassword"
REPORT = [sys.executable, "-W", "ignore", "-m", "pixel_pipeline.defs.instance_report"]
JOB = """
import sys
import dagster as dg

@dg.asset(pool="lake-writer")
def small() -> dg.MaterializeResult:
    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    return dg.MaterializeResult(metadata={"rows": 3})

defs = dg.Definitions([small], jobs=[dg.define_asset_job("tiny")], executor=dg.in_process_executor)
"""


def example_variables() -> dict[str, str]:
    """What production.env.example sets, in systemd's own syntax."""
    lines = (DEPLOY / "production.env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def run(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        command, env=kept | environment, cwd=project_root(), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server(PASSWORD) as url:
        yield url


@pytest.fixture
def production(
    postgres: str, lake: Lake, settings: Settings, tmp_path: Path
) -> Iterator[tuple[dict[str, str], FaultProxy]]:
    """The variables of the example, with what is at hand in place of its servers; and the proxy that speaks TLS for S3."""
    server = embedded.status(settings.home)
    assert server is not None
    authority = make_authority(tmp_path)
    with FaultProxy(server.ports["s3.port"], tls=authority.context) as proxy:
        yield (
            example_variables()
            | {
                "DAGSTER_HOME": str(DEPLOY),
                "PIXEL_HOME": str(tmp_path / "home"),
                "PIXEL_DAGSTER_STORAGE": str(tmp_path / "dagster"),
                "PIXEL_BUCKET": settings.bucket,
                "PIXEL_CHECKPOINT_BUCKET": settings.checkpoint_bucket,
                "AWS_ENDPOINT_URL_S3": proxy.endpoint,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key.get_secret_value(),
                "PIXEL_S3_CA_BUNDLE": str(authority.certificate),
                "AWS_CA_BUNDLE": str(authority.certificate),
                "PIXEL_POSTGRES_URL": postgres,
            },
            proxy,
        )


def test_the_instance_of_one_machine_loads(settings: Settings, tmp_path: Path) -> None:
    done = run(REPORT, {"DAGSTER_HOME": str(project_root()), "PIXEL_DAGSTER_STORAGE": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert (report["storage"], report["compute_logs"]) == ("Sqlite", "Terminal")
    assert report["compute_logs_work"]
    assert report["pools"] == {"granularity": "run", "default_limit": 1}
    assert not list(tmp_path.glob("_doctor*"))


def test_production_keeps_runs_in_postgres_and_logs_in_s3(
    production: tuple[dict[str, str], FaultProxy], postgres: str, lake: Lake, tmp_path: Path
) -> None:
    environment, proxy = production
    (tmp_path / "tiny.py").write_text(JOB)
    done = run(
        [sys.executable, "-m", "dagster", "job", "execute", "-f", str(tmp_path / "tiny.py"), "-j", "tiny"],
        environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with psycopg2.connect(postgres.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("select status, count(*) from runs group by status")
        assert cursor.fetchall() == [("SUCCESS", 1)]
        cursor.execute("select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'")
        assert cursor.fetchone() == (1,)
    connection.close()
    logs = {item.key: lake.data.get(item.key).decode() for item in lake.data.list("_pixel/compute-logs")}
    assert {Path(key).suffix: text.strip().splitlines()[-1] for key, text in logs.items()} == {
        ".out": "said on stdout",
        ".err": "said on stderr",
    }
    # All of it through the TLS that the authority's file makes trusted.
    assert any("PUT" in request and "compute-logs" in request for request in proxy.requests)
    report = json.loads(run(REPORT, environment).stdout)
    assert (report["storage"], report["compute_logs"], report["runs"]) == ("Postgres", "S3", 1)
    assert report["compute_logs_work"]
    assert report["pools"] == {"granularity": "run", "default_limit": 1}
    # Nothing of the report stays behind.
    assert len([*lake.data.list("_pixel/compute-logs")]) == len(logs)


def test_no_secret_is_in_what_dagster_passes_to_its_processes(
    production: tuple[dict[str, str], FaultProxy],
) -> None:
    """The reference to the instance travels on command lines, where every user of the machine can read it."""
    environment, _ = production
    script = "import dagster as dg; i = dg.DagsterInstance.get(); print(i.get_ref().to_dict(), i.info_str())"
    done = run([sys.executable, "-W", "ignore", "-c", script], environment)
    assert "PIXEL_POSTGRES_URL" in done.stdout, done.stderr[-2000:]
    for secret in (PASSWORD, environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_ACCESS_KEY_ID"]):
        assert secret not in done.stdout + done.stderr


def test_every_variable_of_the_files_is_in_the_example() -> None:
    def named(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["env"]} if set(value) == {"env"} else set()
            return own.union(*map(named, value.values()))
        return set()

    wanted = named(yaml.safe_load((DEPLOY / "dagster.yaml").read_text()))
    assert wanted
    assert wanted <= set(example_variables())


def test_the_example_holds_settings_that_load(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in example_variables().items():
        monkeypatch.setenv(name, value)
    settings = get_settings()
    assert settings.profile == "h100"
    assert settings.region == "gra"
    assert settings.endpoint == "https://s3.gra.io.cloud.ovh.net"


def test_the_code_server_is_where_the_others_look_for_it() -> None:
    (location,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    server = location["grpc_server"]
    unit = (DEPLOY / "systemd" / "pixel-code.service").read_text()
    assert f"-m pixel_pipeline.definitions -h {server['host']} -p {server['port']}" in unit
    for path in (DEPLOY / "systemd").iterdir():
        # Dagster asks nobody who they are.
        assert "0.0.0.0" not in path.read_text()
