"""The content of an alert: job, run, failed steps, cause and link. Never conversation text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import dagster as dg

LONGEST_CAUSE = 1000


@dataclass(frozen=True)
class Alert:
    """A failed run.

    Attributes:
        cause: Headline of the first failed step, or of the run if no step failed.
        url: Page of the run in the UI.
    """

    job: str
    run_id: str
    steps: tuple[str, ...]
    cause: str
    url: str

    @classmethod
    def of(cls, context: dg.RunFailureSensorContext, *, ui_url: str) -> "Alert":
        """The alert for the failed run of a run-failure sensor."""
        run = context.dagster_run
        failures = [event for event in context.get_step_failure_events() if event.step_key]
        return cls(
            job=run.job_name,
            run_id=run.run_id,
            steps=tuple(event.step_key or "" for event in failures),
            cause=(_cause(failures) or context.failure_event.message or "unknown")[:LONGEST_CAUSE],
            url=f"{ui_url.rstrip('/')}/runs/{run.run_id}",
        )

    @property
    def subject(self) -> str:
        """One line."""
        return f"The job {self.job} failed"

    def lines(self) -> list[str]:
        """The alert as text."""
        where = f" in {', '.join(self.steps)}" if self.steps else ""
        return [f"{self.subject}{where}.", self.cause, f"Run {self.run_id}: {self.url}"]

    def html(self) -> str:
        """The alert as the body of an e-mail."""
        return "<br>".join(escape(line).replace("\n", "<br>") for line in self.lines())

    def to_json(self) -> dict[str, Any]:
        """The alert as plain types, for a webhook."""
        return {"event": "run_failure", **asdict(self)}


def _cause(failures: Sequence[dg.DagsterEvent]) -> str | None:
    """Headline of the first failed step. Messages of unexpected errors may quote the data, so only their type is named."""
    for event in failures:
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return data.user_failure_data.description
        error = data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return f"unexpected {error.cls_name}"
    return None
