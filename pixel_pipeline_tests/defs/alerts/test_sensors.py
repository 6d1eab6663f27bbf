"""Alerts about failed runs: their content, their delivery, and no secret or conversation text in them."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
import json
from pathlib import Path
import smtplib
import threading
from typing import Any, ClassVar

import dagster as dg
import pytest

from pixel_pipeline.defs.alerts.sensors import AlertError, alert_sensors
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.errors import PixelError, SettingsError
from pixel_pipeline.settings import Settings, get_settings

TEXT = "words of a conversation"


@dg.asset
def fragile(context: dg.AssetExecutionContext) -> None:
    with readable_failure(context):
        raise PixelError("The shards are missing.", hint="Make them.")


@dg.asset
def unexpected() -> None:
    raise KeyError(TEXT)


class Receiver(BaseHTTPRequestHandler):
    """Records the documents that are posted."""

    received: ClassVar[list[tuple[str, Any]]] = []
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).received.append((self.path, json.loads(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Receiver.received, Receiver.status = [], 200
    with HTTPServer(("127.0.0.1", 0), Receiver) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def failed_run(
    asset: dg.AssetsDefinition, instance: dg.DagsterInstance
) -> tuple[str, dg.RunFailureSensorContext]:
    """The id of a failed run, and the context of a run-failure sensor for it."""
    job = dg.define_asset_job("train", selection=[asset])
    definitions = dg.Definitions([asset], jobs=[job])
    result = definitions.resolve_job_def("train").execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    event = result.get_run_failure_event()
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure_alert",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=event,
    ).for_run_failure()
    return result.run_id, context


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


def test_slack_and_the_webhook_get_job_step_cause_and_link(
    server: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_ALERTS_SLACK", f"{server}/services/secret")
    monkeypatch.setenv("PIXEL_ALERTS_WEBHOOK", f"{server}/hook")
    monkeypatch.setenv("PIXEL_UI_URL", "https://dagster.example/")
    (sensor,) = alert_sensors(get_settings())
    run_id, context = failed_run(fragile, instance)
    sensor(context)
    url = f"https://dagster.example/runs/{run_id}"
    (slack_path, slack), (hook_path, hook) = Receiver.received
    assert (slack_path, hook_path) == ("/services/secret", "/hook")
    assert slack == {
        "text": f"The job train failed in fragile.\nThe shards are missing.\nMake them.\nRun {run_id}: {url}"
    }
    assert hook == {
        "event": "run_failure",
        "job": "train",
        "run_id": run_id,
        "steps": ["fragile"],
        "cause": "The shards are missing.\nMake them.",
        "url": url,
    }


def test_an_unexpected_error_is_named_by_its_type(
    server: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_ALERTS_WEBHOOK", f"{server}/hook")
    (sensor,) = alert_sensors(get_settings())
    sensor(failed_run(unexpected, instance)[1])
    ((_, hook),) = Receiver.received
    assert hook["cause"] == "unexpected KeyError"
    assert TEXT not in json.dumps(hook)


def test_an_undelivered_alert_names_the_setting_and_not_the_url(
    server: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    Receiver.status = 404
    monkeypatch.setenv("PIXEL_ALERTS_SLACK", f"{server}/services/secret")
    monkeypatch.setenv("PIXEL_ALERTS_WEBHOOK", "http://127.0.0.1:9/other-secret")
    (sensor,) = alert_sensors(get_settings())
    with pytest.raises(AlertError) as caught:
        sensor(failed_run(fragile, instance)[1])
    assert "PIXEL_ALERTS_SLACK: HTTP status 404; PIXEL_ALERTS_WEBHOOK: ConnectionRefusedError" in str(
        caught.value
    )
    assert "secret" not in str(caught.value)


def test_email_goes_to_all_addresses(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []

    class Server:
        def __init__(self, host: str, port: int, **options: Any) -> None:
            sent.append((host, port))

        def __enter__(self) -> "Server":
            return self

        def __exit__(self, *error: object) -> None: ...

        def login(self, user: str, password: str) -> None:
            sent.append((user, password))

        def sendmail(self, sender: str, addresses: Any, message: str) -> None:
            sent.append((sender, tuple(addresses), message))

    monkeypatch.setattr(smtplib, "SMTP_SSL", Server)
    for name, value in {
        "TO": "a@example.org, b@example.org",
        "FROM": "pixel@example.org",
        "PASSWORD": "secret",
    }.items():
        monkeypatch.setenv(f"PIXEL_ALERTS_EMAIL_{name}", value)
    monkeypatch.setenv("PIXEL_ALERTS_SMTP_HOST", "mail.example.org")
    (sensor,) = alert_sensors(get_settings())
    run_id, context = failed_run(fragile, instance)
    sensor(context)
    (_, login, (sender, addresses, message)) = sent
    assert login == ("pixel@example.org", "secret")
    assert (sender, addresses) == ("pixel@example.org", ("a@example.org", "b@example.org"))
    assert "Subject: The job train failed" in message
    assert "The shards are missing.<br>Make them." in message
    assert run_id in message


def test_without_settings_there_are_no_sensors() -> None:
    assert alert_sensors(Settings()) == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PIXEL_ALERTS_SLACK", "http://hooks.example.com/planted"),
        ("PIXEL_ALERTS_WEBHOOK", "planted"),
        ("PIXEL_ALERTS_EMAIL_TO", "a@example.org"),
    ],
)
def test_incomplete_settings_name_their_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as caught:
        get_settings()
    assert "planted" not in str(caught.value)
