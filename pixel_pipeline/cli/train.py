"""`pixel plan` and `pixel train`: what a run will come to, and the run."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_pipeline.cli.console import Json, err, out, print_json
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.planning.session import Session
    from pixel_pipeline.training.runtime.hosting import Host

DATA, MODEL, TIME = "Data", "Model and run", "Time"


class PriorityOption(StrEnum):
    """What a run is to be best at."""

    fast = "fast"
    balanced = "balanced"
    quality = "quality"
    memory = "memory"


DatasetPath = Annotated[
    Path | None,
    typer.Option(
        help="Folder or file of this machine, in any form that `pixel ingest` takes.", rich_help_panel=DATA
    ),
]
S3Path = Annotated[
    str | None,
    typer.Option(
        help="In the data bucket, as s3://… or a key: a shard manifest, or a table of conversations.",
        rich_help_panel=DATA,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        help="Base model to train adapters on (`pixel base list`). Default: that of the shards; none: a model from scratch.",
        rich_help_panel=MODEL,
    ),
]
PriorityChoice = Annotated[
    PriorityOption | None,
    typer.Option(
        help="fast: once through the data; balanced: twice; quality: four times, and ends when nothing is gained; "
        "memory: as balanced, in the least memory.",
        rich_help_panel=MODEL,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with fields of the training configuration; options here win over it.",
        rich_help_panel=MODEL,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="Steps of the whole run, in place of the priority's epochs.", rich_help_panel=MODEL
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        help="Name of the run. Default: one that follows from data and configuration.", rich_help_panel=MODEL
    ),
]
DenseBaseline = Annotated[
    bool,
    typer.Option(
        "--dense-baseline",
        help="Plain LoRA with as many parameters, to compare with.",
        rich_help_panel=MODEL,
    ),
]
Hours = Annotated[
    float | None,
    typer.Option(
        help="Hours from now on. Training ends in time for a checkpoint and an evaluation; the same command goes on.",
        rich_help_panel=TIME,
    ),
]


def plan(
    hours: Hours = None,
    priority: PriorityChoice = None,
    base: Base = None,
    dataset_path: DatasetPath = None,
    s3_path: S3Path = None,
    config: Config = None,
    steps: Steps = None,
    run: Run = None,
    dense_baseline: DenseBaseline = False,
    from_last_run: Annotated[
        bool,
        typer.Option(
            "--from-last-run",
            help="Take the speed of the last run of this kind; fails where there is none.",
            rich_help_panel=TIME,
        ),
    ] = False,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure, even if a last run's speed is known.", rich_help_panel=TIME),
    ] = False,
    as_json: Json = False,
) -> None:
    """What a training run will come to: steps, tokens, memory, and what of it fits the hours there are.

    Measures a few real steps on this machine, or takes the speed of the last run of the same kind.

    \b
    Examples:
      pixel plan --hours 12
      pixel plan --hours 5 --base smollm2 --priority fast --json
    """
    if from_last_run and measure:
        raise typer.BadParameter("--from-last-run and --measure exclude each other")
    if hours is not None and hours <= 0:
        raise typer.BadParameter("--hours must be greater than 0")
    source = "last-run" if from_last_run else "measure" if measure else "either"
    _hosted(
        lambda host, lake, session, began: _plan(host, lake, session, began, source=source, as_json=as_json),
        dataset_path=dataset_path,
        s3_path=s3_path,
        config=config,
        priority=priority,
        hours=hours,
        run=run,
        overrides=_overrides(steps=steps, base=base, dense_baseline=dense_baseline),
    )


def train(
    dataset_path: DatasetPath = None,
    s3_path: S3Path = None,
    base: Base = None,
    priority: PriorityChoice = None,
    config: Config = None,
    steps: Steps = None,
    run: Run = None,
    dense_baseline: DenseBaseline = False,
    hours: Hours = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and train nothing.", rich_help_panel=TIME)
    ] = False,
) -> None:
    """Train on what the lake holds, or on what you name. Run it again to go on: after Ctrl-C, a fault, or when the hours are over.

    Without options it trains on the current token shards as the settings (PIXEL_…) say, as the job `train_moe` does. Exit status: 0 done or
    the hours are over, 2 an error that is told, 130 interrupted; a checkpoint of all steps done is in the lake then.

    \b
    Examples:
      pixel train --hours 12
      pixel train --base smollm2 --priority quality
      pixel train --dataset-path ~/exports --dry-run
      pixel train --s3-path s3://pixel-data/curated --config run.yaml
    """
    if hours is not None and hours <= 0:
        raise typer.BadParameter("--hours must be greater than 0")

    def body(host: "Host", lake: "Lake", session: "Session", began: float) -> None:
        from pixel_pipeline.training.planning.session import train_session

        if dry_run:
            _plan(host, lake, session, began, source="either", as_json=False)
        else:
            train_session(host, lake, session, began=began)

    _hosted(
        body,
        dataset_path=dataset_path,
        s3_path=s3_path,
        config=config,
        priority=priority,
        hours=hours,
        run=run,
        overrides=_overrides(steps=steps, base=base, dense_baseline=dense_baseline),
    )


def _overrides(*, steps: int | None, base: str | None, dense_baseline: bool) -> dict[str, Any]:
    given = {"steps": steps, "base": base, "dense_baseline": dense_baseline or None}
    return {name: value for name, value in given.items() if value is not None}


def _hosted(
    body: Any,
    *,
    dataset_path: Path | None,
    s3_path: str | None,
    config: Path | None,
    priority: PriorityOption | None,
    hours: float | None,
    run: str | None,
    overrides: dict[str, Any],
) -> None:
    """Find the data, make the configuration, and do something with both; ends the command with its exit status."""
    from pixel_pipeline.training.runtime.hosting import run_hosted

    began = monotonic()
    if dataset_path is not None and s3_path is not None:
        raise typer.BadParameter("--dataset-path and --s3-path exclude each other")

    def hosted(host: "Host") -> None:
        from pixel_pipeline.lake.lake import Lake
        from pixel_pipeline.tokens.shards import ShardManifest
        from pixel_pipeline.tokens.sources import find_shards
        from pixel_pipeline.training.config.resolve import read_config_file, training_config
        from pixel_pipeline.training.planning.session import Session
        from pixel_pipeline.training.runtime.revision import git_revision

        settings = get_settings()
        asked = (read_config_file(config) if config else {}) | overrides
        lake = Lake.open(settings)
        lake.check()
        manifest_key = find_shards(
            lake,
            settings,
            base=asked.get("base"),
            dataset_path=dataset_path,
            s3_path=s3_path,
            report=host.report,
        )
        session = Session(
            config=training_config(
                settings, ShardManifest.load(lake.data, manifest_key), priority=priority, overrides=asked
            ),
            manifest_key=manifest_key,
            git_revision=git_revision(),
            run=run,
            hours=hours or settings.training_hours,
        )
        body(host, lake, session, began)

    status = run_hosted(hosted)
    if status:
        raise typer.Exit(status)


def _plan(
    host: "Host", lake: "Lake", session: "Session", began: float, *, source: str, as_json: bool
) -> None:
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
        err.print("Next: pixel train with the same options", markup=False, soft_wrap=True)
