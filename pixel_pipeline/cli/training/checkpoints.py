"""`pixel checkpoints list | compare | card`: checkpoints and their model cards."""

from pathlib import Path
from typing import Annotated

import typer

from pixel_pipeline.cli.console import Flag, Json, print_json, say
from pixel_pipeline.cli.tables import Column, print_table
from pixel_pipeline.cli.training.comparison import count_text, loss_text, saved_text, show_comparison
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings

checkpoints = typer.Typer(help="List and compare checkpoints, open model cards.", invoke_without_command=True)

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="`latest`, `best`, `promoted`, RUN, RUN/step-000200, or an s3:// URI."
    ),
]


@checkpoints.callback()
def _checkpoints(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        checkpoints_list(as_json=as_json)


@checkpoints.command("list")
def checkpoints_list(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run to list. Default: all runs.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the checkpoints of one run or of all runs."""
    from pixel_pipeline.cli.training.summaries import Checkpoints
    from pixel_pipeline.lake.lake import Lake

    found = Checkpoints.find(Lake.open(get_settings()), run=run)
    summaries = [found.summary(ref) for ref in found.refs]
    if as_json:
        print_json(
            {
                "bucket": found.lake.checkpoints.name,
                "checkpoints": [summary.to_json() for summary in summaries],
            }
        )
        return
    if not summaries:
        say("There are no checkpoints yet. `pixel train` makes one.")
        return
    print_table(
        [
            *(Column(name) for name in ("checkpoint", "model")),
            *(Column(name, numeric=True) for name in ("tokens", "validation loss", "test loss", "MB")),
            *(Column(name) for name in ("saved (UTC)", "names")),
        ],
        [
            (
                summary.name,
                summary.kind or summary.progress,
                count_text(summary.tokens),
                loss_text(summary.validation_loss),
                loss_text(summary.evaluation.loss) if summary.evaluation else "",
                "" if summary.bytes is None else f"{summary.bytes / 1e6:,.1f}",
                saved_text(summary),
                ", ".join(summary.names),
            )
            for summary in summaries
        ],
        title=found.lake.checkpoints.uri(),
    )


@checkpoints.command("compare")
def checkpoints_compare(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT CHECKPOINT…", help="Two or more checkpoints.")
    ],
    as_json: Json = False,
) -> None:
    """Compare checkpoints: figures, and settings that differ.

    \b
    Examples:
      pixel checkpoints compare nano-2f97670e479c/step-000150 latest
      pixel checkpoints compare promoted latest
    """
    from pixel_pipeline.cli.training.summaries import Checkpoints
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.checkpoints.store import CheckpointRef

    if len(checkpoints) < 2:
        raise typer.BadParameter("name at least two checkpoints")
    lake = Lake.open(get_settings())
    found = Checkpoints.find(lake)
    show_comparison(
        [found.summary(CheckpointRef.resolve(lake, name)) for name in checkpoints], as_json=as_json
    )


@checkpoints.command("card")
def checkpoints_card(
    checkpoint: Checkpoint = "latest",
    output: Annotated[
        Path | None,
        typer.Option(help="File to write the Markdown to, instead of stdout.", show_default=False),
    ] = None,
    in_browser: Annotated[bool, Flag("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Print or open the model card of a checkpoint.

    The card is Markdown. `pixel evaluate` writes it.

    \b
    Examples:
      pixel checkpoints card
      pixel checkpoints card promoted --open
      pixel checkpoints card nano-2f97670e479c/step-000200 --output card.md
    """
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
    from pixel_pipeline.training.checkpoints.store import CheckpointRef
    from pixel_pipeline.training.evaluation.store import evaluation_prefix

    settings = get_settings()
    lake = Lake.open(settings)
    lake.check()
    ref = CheckpointRef.resolve(lake, checkpoint)
    key = f"{evaluation_prefix(ref)}/README.md"
    try:
        markdown = lake.checkpoints.get(key).decode()
    except ObjectNotFoundError:
        raise PixelError(
            f"{ref.prefix} has no model card: it has not been evaluated.",
            hint=f"Run `pixel evaluate {ref.prefix}`.",
        ) from None
    if output is not None:
        output.write_text(markdown, encoding="utf-8")
        say(f"model card written to {output}")
    if in_browser:
        from pixel_pipeline.cli.training.card_page import open_page

        open_page(markdown, path=settings.home / "cards" / f"{ref.run}-step-{ref.step:06d}.html")
    if as_json:
        print_json({"checkpoint": ref.uri(lake), "card": lake.checkpoints.uri(key), "markdown": markdown})
    elif output is None and not in_browser:
        typer.echo(markdown, nl=False)
