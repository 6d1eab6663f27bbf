"""`pixel generate`: an answer of a trained checkpoint."""

from typing import Annotated

import typer

from pixel_pipeline.cli.console import out
from pixel_pipeline.settings import get_settings


def generate(
    checkpoint: Annotated[str, typer.Argument(help="`latest`, a run, or an s3:// URI.")] = "latest",
    prompt: Annotated[str, typer.Option(help="What the client says.")] = "I feel anxious and I cannot sleep.",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 120,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.7,
    top_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Nucleus of the distribution to draw from.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal text.")] = 0,
) -> None:
    """Answer a prompt with a trained checkpoint, through plain transformers."""
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.inference.generate import generate as stream

    lake = Lake.open(get_settings())
    for piece in stream(
        lake,
        checkpoint,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    ):
        out.print(piece, end="", markup=False, soft_wrap=True)
    out.print()
