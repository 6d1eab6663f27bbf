"""The console logger: one line per message in the terminal, instead of Dagster's event stream.

It serves the person who typed `dagster job execute`. The event log in the UI keeps everything.
"""

import logging
import sys
from typing import Any

import dagster as dg


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", None) or {}
        step = _field(meta, "step_key") or ""
        text = _field(meta, "orig_message") or record.getMessage()
        event = _field(meta, "dagster_event")
        if event is not None:
            text = _event_text(event, text)
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname}  "
        time = self.formatTime(record, "%H:%M:%S")
        # A longer step name shifts only its own line.
        return f"{time}  {step + '  ':<22}{mark}{text}"


class _Interesting(logging.Filter):
    """Passes messages of assets and results of steps and checks; drops Dagster's own events."""

    _EVENTS = frozenset(
        {"ASSET_CHECK_EVALUATION", "STEP_FAILURE", "STEP_SUCCESS", "RUN_SUCCESS", "RUN_CANCELED"}
    )

    # The failed step shows its cause; the steps that are skipped after it add nothing.
    _NOISE = ("[pipes] external process", "Dependencies for step")

    def _noise(self, record: logging.LogRecord) -> bool:
        text = _field(getattr(record, "dagster_meta", None) or {}, "orig_message") or record.getMessage()
        return str(text).startswith(self._NOISE)

    def filter(self, record: logging.LogRecord) -> bool:
        event = _field(getattr(record, "dagster_meta", None) or {}, "dagster_event")
        if event is None:
            return record.levelno >= logging.INFO and not self._noise(record)
        return event.event_type_value in self._EVENTS


@dg.logger(None, description="One readable line per message.")
def console_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger named `console` of every job of this project."""
    logger = logging.Logger("pixel.console", level=logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ConsoleFormatter())
    handler.addFilter(_Interesting())
    logger.addHandler(handler)
    return logger


def _field(meta: object, name: str) -> Any:
    return meta.get(name) if isinstance(meta, dict) else getattr(meta, name, None)


def _event_text(event: dg.DagsterEvent, text: str) -> str:
    data = event.event_specific_data
    if event.event_type_value == "STEP_FAILURE":
        if getattr(getattr(data, "error", None), "cls_name", "") == "DagsterExecutionInterruptedError":
            return "interrupted"
        failure = getattr(data, "user_failure_data", None)
        error = getattr(data, "error", None)
        return str(getattr(failure, "description", None) or getattr(error, "message", None) or text).strip()
    if event.event_type_value == "ASSET_CHECK_EVALUATION":
        verdict = "passed" if getattr(data, "passed", False) else "FAILED"
        return (
            f"check {getattr(data, 'check_name', '')} {verdict}: {getattr(data, 'description', None) or ''}"
        )
    if event.event_type_value == "STEP_SUCCESS":
        return f"done in {getattr(data, 'duration_ms', 0) / 1000:.1f} s"
    return {"RUN_SUCCESS": "run succeeded", "RUN_CANCELED": "run canceled"}.get(event.event_type_value, text)
