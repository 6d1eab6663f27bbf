"""Sensors that report failed runs to Slack, to a webhook and by e-mail, as the PIXEL_ALERTS settings say."""

from collections.abc import Mapping
import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import dagster as dg

from pixel_pipeline.defs.alerts.message import Alert
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import Settings, get_settings

TIMEOUT_SECONDS = 10


class AlertError(PixelError):
    """An alert was not delivered."""


@dg.definitions
def alert_definitions() -> dg.Definitions:
    """One sensor for Slack and the webhook and one for e-mail, each only if it is configured."""
    return dg.Definitions(sensors=alert_sensors(get_settings()))


def alert_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors that the settings ask for; on from the start."""
    sensors: list[dg.SensorDefinition] = []
    if settings.alerts_slack or settings.alerts_webhook:
        sensors.append(_http_sensor(settings))
    if settings.alerts_email_to:
        sensors.append(_email_sensor(settings))
    return sensors


def _http_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="run_failure_alert",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports failed runs to Slack or a webhook.",
    )
    def run_failure_alert(context: dg.RunFailureSensorContext) -> None:
        alert = Alert.of(context, ui_url=settings.ui_url)
        slack = {"text": "\n".join(alert.lines())}
        problems = []
        for variable, url, content in (
            ("PIXEL_ALERTS_SLACK", settings.alerts_slack, slack),
            ("PIXEL_ALERTS_WEBHOOK", settings.alerts_webhook, alert.to_json()),
        ):
            if url is None:
                continue
            try:
                post(url.get_secret_value(), content)
            except (OSError, ValueError) as error:
                problems.append(f"{variable}: {_reason(error)}")
        if problems:
            raise AlertError(
                f"The alert about run {alert.run_id} was not delivered. {'; '.join(problems)}.",
                hint="Check the URL and the network.",
            )

    return run_failure_alert


def _email_sensor(settings: Settings) -> dg.SensorDefinition:
    assert settings.alerts_email_from
    assert settings.alerts_email_password
    assert settings.alerts_smtp_host
    return dg.make_email_on_run_failure_sensor(
        name="run_failure_email",
        email_from=settings.alerts_email_from,
        email_password=settings.alerts_email_password.get_secret_value(),
        email_to=settings.alerts_email_to,
        email_subject_fn=lambda context: Alert.of(context, ui_url=settings.ui_url).subject,
        email_body_fn=lambda context: Alert.of(context, ui_url=settings.ui_url).html(),
        smtp_host=settings.alerts_smtp_host,
        smtp_type=settings.alerts_smtp_type,
        smtp_port=settings.alerts_smtp_port,
        smtp_user=settings.alerts_smtp_user,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


def post(url: str, content: Mapping[str, Any]) -> None:
    """Send JSON.

    Raises:
        OSError: No connection, or an answer other than 2xx.
    """
    request = Request(  # noqa: S310  the settings admit https and loopback alone
        url, data=json.dumps(content).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
        pass


def _reason(error: Exception) -> str:
    # The URL is a secret, and some of these errors quote it.
    if isinstance(error, HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, URLError):
        return type(error.reason).__name__ if isinstance(error.reason, Exception) else "no connection"
    return type(error).__name__
