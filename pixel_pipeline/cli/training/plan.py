"""`pixel plan`: how long a training run takes and how much memory it needs."""

from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from pixel_pipeline.cli.console import Flag, Json, out, print_json, suggest_next
from pixel_pipeline.cli.training.options import (
    TIME,
    Base,
    Config,
    DatasetPath,
    DenseBaseline,
    Hours,
    InitFrom,
    PriorityChoice,
    Run,
    S3Path,
    Steps,
    TrainingRequest,
)
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.planning.session import Session
    from pixel_pipeline.training.runtime.hosting import Host


def plan(
    hours: Hours = None,
    priority: PriorityChoice = None,
    base: Base = None,
    dataset_path: DatasetPath = None,
    s3_path: S3Path = None,
    config: Config = None,
    steps: Steps = None,
    init_from: InitFrom = None,
    run: Run = None,
    dense_baseline: DenseBaseline = False,
    from_last_run: Annotated[
        bool,
        Flag(
            "--from-last-run",
            help="Use the speed of the last run of this kind; an error if there is none.",
            rich_help_panel=TIME,
        ),
    ] = False,
    measure: Annotated[
        bool,
        Flag("--measure", help="Measure the speed even if a last run's is known.", rich_help_panel=TIME),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the time and memory that a training run needs.

    Trains nothing. Measures a few steps on this machine, or uses the speed of the last run of the same kind.

    \b
    Examples:
      pixel plan --hours 12
      pixel plan --hours 5 --base smollm2 --priority fast --json
    """
    from pixel_pipeline.training.runtime.hosting import Host, prepare_process

    began = monotonic()
    if from_last_run and measure:
        raise typer.BadParameter("--from-last-run and --measure exclude each other")
    request = TrainingRequest(
        dataset_path=dataset_path,
        s3_path=s3_path,
        base=base,
        priority=priority,
        config=config,
        steps=steps,
        init_from=init_from,
        run=run,
        dense_baseline=dense_baseline,
        hours=hours,
    )
    request.check()
    prepare_process()
    host = Host()
    lake, session = request.open(host.report)
    source = "last-run" if from_last_run else "measure" if measure else "either"
    show_plan(host, lake, session, began=began, source=source, as_json=as_json)


def show_plan(
    host: "Host",
    lake: "Lake",
    session: "Session",
    *,
    began: float,
    source: str = "either",
    as_json: bool = False,
) -> None:
    """Plan a session and print the plan.

    Args:
        began: Of `time.monotonic`: when the process began.
        source: Of the speed: `measure`, `last-run` or `either`.
    """
    from pixel_pipeline.training.planning.planner import Source, plan_run
    from pixel_pipeline.training.planning.report import plan_json, plan_lines

    planned = plan_run(
        session.config,
        lake,
        session.manifest_key,
        run=session.run,
        hours=session.hours,
        source=Source(source),
        began=began,
        home=get_settings().home,
        report=host.report,
    )
    now = datetime.now().astimezone()
    if as_json:
        print_json(plan_json(planned, now=now))
        return
    for line in plan_lines(planned, now=now):
        out.print(line, markup=False, soft_wrap=True)
    if not planned.finished:
        suggest_next("pixel train, with the same options")
