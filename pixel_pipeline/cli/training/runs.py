"""`pixel runs list | show | compare`: training runs in the checkpoint bucket."""

from typing import TYPE_CHECKING, Annotated

import typer

from pixel_pipeline.cli.console import Json, out, print_json, say
from pixel_pipeline.cli.tables import Column, print_table
from pixel_pipeline.cli.training.comparison import (
    count_text,
    figure_rows,
    loss_text,
    saved_text,
    show_comparison,
    value_text,
)
from pixel_pipeline.settings import get_settings

if TYPE_CHECKING:
    from pixel_pipeline.cli.training.summaries import Checkpoints

runs = typer.Typer(help="List, show and compare training runs.", invoke_without_command=True)

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of a run, `latest`, `promoted`, or an s3:// URI.")
]


@runs.callback()
def _runs(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        runs_list(as_json=as_json)


@runs.command("list")
def runs_list(as_json: Json = False) -> None:
    """List all runs, the newest first."""
    found = _checkpoints()
    summaries = [found.summary(ref) for ref in found.newest_of_runs()]
    if as_json:
        print_json({"bucket": found.lake.checkpoints.name, "runs": [s.to_json() for s in summaries]})
        return
    if not summaries:
        say("There are no runs yet. `pixel train` starts one.")
        return
    print_table(
        [
            *(Column(name) for name in ("run", "model", "steps")),
            *(Column(name, numeric=True) for name in ("tokens", "validation loss", "test loss")),
            *(Column(name) for name in ("saved (UTC)", "names")),
        ],
        [
            (
                summary.run,
                summary.kind or "",
                summary.progress,
                count_text(summary.tokens),
                loss_text(summary.best_validation_loss),
                loss_text(summary.evaluation.loss) if summary.evaluation else "",
                saved_text(summary),
                ", ".join(name for name in summary.names if name != "best of the run"),
            )
            for summary in summaries
        ],
        title=found.lake.checkpoints.uri(),
    )


@runs.command("show")
def runs_show(run: Run = "latest", as_json: Json = False) -> None:
    """Show one run: figures, checkpoints and configuration.

    \b
    Examples:
      pixel runs show latest
      pixel runs show nano-2f97670e479c --json
    """
    found = _checkpoints(run)
    summary = found.summary(found.refs[-1])
    steps = [ref.step for ref in found.refs]
    if as_json:
        print_json({**summary.to_json(), "checkpoints": steps})
        return
    print_table(
        [Column("run"), Column(summary.run)],
        [*figure_rows([summary]), ("checkpoints", ", ".join(f"{step:,}" for step in steps))],
    )
    if summary.identity:
        out.print()
        print_table(
            [Column("setting or input"), Column("value")],
            [(name, value_text(value)) for name, value in sorted(summary.identity.items())],
        )


@runs.command("compare")
def runs_compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Two or more runs.")],
    as_json: Json = False,
) -> None:
    """Compare runs: figures, and settings that differ.

    Each run is represented by its newest checkpoint.

    \b
    Example:
      pixel runs compare nano-2f97670e479c latest
    """
    if len(runs) < 2:
        raise typer.BadParameter("name at least two runs")
    show_comparison(
        [found.summary(found.refs[-1]) for found in map(_checkpoints, runs)],
        as_json=as_json,
    )


def _checkpoints(run: str | None = None) -> "Checkpoints":
    from pixel_pipeline.cli.training.summaries import Checkpoints
    from pixel_pipeline.lake.lake import Lake

    return Checkpoints.find(Lake.open(get_settings()), run=run)
