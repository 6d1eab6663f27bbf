"""`pixel train`: train on token shards, or continue a run."""

from time import monotonic
from typing import Annotated

from pixel_pipeline.cli.console import Flag
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
from pixel_pipeline.cli.training.plan import show_plan


def train(
    dataset_path: DatasetPath = None,
    s3_path: S3Path = None,
    base: Base = None,
    priority: PriorityChoice = None,
    config: Config = None,
    steps: Steps = None,
    init_from: InitFrom = None,
    run: Run = None,
    dense_baseline: DenseBaseline = False,
    hours: Hours = None,
    dry_run: Annotated[
        bool, Flag("--dry-run", help="Show the plan, train nothing.", rich_help_panel=TIME)
    ] = False,
) -> None:
    """Train a model, or continue a run.

    Without options it trains on the current token shards with the settings (PIXEL_…), as the job `train_moe` does.

    Run the same command again to continue: after Ctrl-C, after an error, or when the hours are over.

    \b
    Examples:
      pixel train --hours 12
      pixel train --base smollm2 --priority quality
      pixel train --dataset-path ~/exports --dry-run
      pixel train --s3-path s3://pixel-data/curated --config run.yaml
      pixel train --init-from nano-2f97670e479c/step-000200
    """
    from pixel_pipeline.training.runtime.hosting import Host, prepare_process

    began = monotonic()
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
    if dry_run:
        show_plan(host, lake, session, began=began)
        return
    from pixel_pipeline.training.train import train_session

    train_session(host, lake, session, began=began)
