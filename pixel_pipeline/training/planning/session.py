"""One training process: plan, train, report. Torch-free until there are steps to do.

`pixel train` and the process of the Dagster asset (`python -m pixel_pipeline.training.train`) both use it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Self

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.planning.planner import PlannedRun, plan_run
from pixel_pipeline.training.planning.report import plan_lines
from pixel_pipeline.training.runtime.hosting import Host, run_hosted
from pixel_pipeline.training.train import TrainingResult, train


@dataclass(frozen=True)
class Session:
    """What a process is asked for.

    Attributes:
        run: Name of the run; None for one that follows from the data and the configuration.
        hours: That the process has, from its start; None: as long as it takes.
        evaluates: An evaluation follows, for which the hours leave time.
    """

    config: TrainingConfig
    manifest_key: str
    git_revision: str
    run: str | None = None
    hours: float | None = None
    evaluates: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain types, for another process."""
        return {**asdict(self), "config": self.config.model_dump(mode="json")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            TrainingConfigError: naming each field that is wrong.
        """
        return cls(
            config=TrainingConfig.parse(content["config"]),
            manifest_key=content["manifest_key"],
            git_revision=content["git_revision"],
            run=content.get("run"),
            hours=content.get("hours"),
            evaluates=content.get("evaluates", False),
        )


def train_session(host: Host, lake: Lake, session: Session, *, began: float) -> TrainingResult:
    """Plan the window if there is one, train, and tell what came of it. Raises as `train` and `plan_run`.

    Args:
        began: Of `time.monotonic`: when the process began.
    """
    config, planned, deadline = session.config, None, None
    if session.hours is not None:
        deadline = began + session.hours * 3600
        planned = plan_run(
            config,
            lake,
            session.manifest_key,
            run=session.run,
            hours=session.hours,
            evaluates=session.evaluates,
            began=began,
            home=get_settings().home,
            report=host.report,
        )
        for line in plan_lines(planned, now=datetime.now().astimezone()):
            host.report(line)
        config = planned.config
        if planned.speed is not None:
            deadline -= planned.speed.overheads.evaluation
    result = train(
        config,
        lake,
        session.manifest_key,
        run=session.run,
        report=host.report,
        git_revision=session.git_revision,
        deadline=deadline,
    )
    from pixel_pipeline.training.evaluation.overview import run_metadata

    host.materialize(
        metadata={
            **run_metadata(result),
            **_compared(planned, seconds=monotonic() - began),
        },
        data_version=result.model_sha256,
    )
    first, last = (result.history.validations[place].loss for place in (0, -1))
    outcome = "reused" if result.reused else "trained" if result.finished else "window over"
    host.report(
        f"{outcome}: {result.uri}  validation loss {first:.2f} -> {last:.2f} ({result.validation_ratio:.0%})"
    )
    if not result.finished:
        host.report(
            f"{config.steps - result.checkpoint.step:,} of {config.steps:,} steps are left: the same command goes on with them"
        )
    return result


def _compared(planned: PlannedRun | None, *, seconds: float) -> dict[str, Any]:
    """Metadata that compares the plan with the run; empty without a plan."""
    if planned is None or planned.plan is None:
        return {}
    plan = planned.plan
    return {
        "planned steps": f"{plan.expected.reached:,} ({plan.slowest.reached:,} to {plan.fastest.reached:,})",
        "planned tokens per second": f"{plan.tokens_per_second:,.0f}",
        "planned duration": f"{plan.expected.seconds / 60:,.1f} min",
        "duration": f"{seconds / 60:,.1f} min",
        "planned by": plan.step.source,
        "planned windows": plan.expected.windows or 0,
    }


def main() -> int:
    """The training process that Dagster starts; returns its exit status."""
    began = monotonic()
    return run_hosted(lambda host: _run_task(host, began=began))


def _run_task(host: Host, *, began: float) -> None:
    session = Session.from_json(host.task(verb="pixel train"))
    train_session(host, Lake.open(get_settings()), session, began=began)
