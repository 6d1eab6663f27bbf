"""`pixel promote`: make a checkpoint the one that is used."""

from dataclasses import asdict

import typer

from pixel_pipeline.cli.console import Json, print_json, show_error
from pixel_pipeline.cli.exit_codes import ExitCode
from pixel_pipeline.cli.models.evaluate import Checkpoint, Manifest
from pixel_pipeline.settings import get_settings


def promote(checkpoint: Checkpoint = "latest", manifest: Manifest = None, as_json: Json = False) -> None:
    """Make a checkpoint the promoted one.

    `promoted` then names it wherever a checkpoint is expected. The gates of the job `promote_model` apply.

    Exit code 1 if a gate fails; the checkpoint promoted before then stays.

    \b
    Examples:
      pixel promote
      pixel promote nano-2f97670e479c/step-000200
    """
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.tokens.shards import current_manifest_key
    from pixel_pipeline.training.promotion.promote import promote as promote_checkpoint
    from pixel_pipeline.training.runtime.hosting import Host, prepare_process

    prepare_process()
    settings = get_settings()
    lake = Lake.open(settings)
    lake.check()
    outcome = promote_checkpoint(
        lake,
        checkpoint,
        manifest or current_manifest_key(lake.data),
        Host().report,
        home=settings.home,
        tolerance=settings.promotion_tolerance,
    )
    if as_json:
        print_json(
            {
                "checkpoint": outcome.checkpoint,
                "promoted": outcome.promotion is not None,
                "reused": outcome.reused,
                "gates": [asdict(gate) for gate in outcome.gates],
            }
        )
    elif outcome.promotion is None:
        show_error(outcome.refusal, "Train further, or promote another checkpoint.")
    if outcome.promotion is None:
        raise typer.Exit(ExitCode.NEGATIVE)
