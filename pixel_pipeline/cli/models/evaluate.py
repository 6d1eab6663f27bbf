"""`pixel evaluate`: score a checkpoint on held-out conversations."""

from typing import Annotated

import typer

from pixel_pipeline.cli.console import Json, print_json, suggest_next
from pixel_pipeline.settings import get_settings

Checkpoint = Annotated[
    str, typer.Argument(help="`latest`, `best`, `promoted`, RUN, RUN/step-000200, or an s3:// URI.")
]
Manifest = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        metavar="KEY",
        help="Key of a shard manifest in the data bucket. Default: the current one.",
    ),
]


def evaluate(checkpoint: Checkpoint = "latest", manifest: Manifest = None, as_json: Json = False) -> None:
    """Score a checkpoint on held-out conversations.

    Measures loss by family, use of experts and a safety smoke test, and writes the model card, as the asset `evaluation` does.

    \b
    Examples:
      pixel evaluate
      pixel evaluate nano-2f97670e479c/step-000200 --json
    """
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.tokens.shards import current_manifest_key
    from pixel_pipeline.training.checkpoints.store import CheckpointRef
    from pixel_pipeline.training.evaluation.evaluate import evaluate as evaluate_checkpoint
    from pixel_pipeline.training.runtime.hosting import Host, prepare_process

    prepare_process()
    lake = Lake.open(get_settings())
    lake.check()
    ref = CheckpointRef.resolve(lake, checkpoint)
    result = evaluate_checkpoint(lake, ref, manifest or current_manifest_key(lake.data), Host().report)
    if as_json:
        print_json(result.to_json())
        return
    suggest_next(f"pixel checkpoints card {ref.prefix}")
