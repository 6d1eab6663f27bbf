"""`pixel generate`: answer one prompt."""

from typing import Annotated

import typer

from pixel_pipeline.cli.console import out
from pixel_pipeline.cli.models.sampling import Seed, Temperature, TopP
from pixel_pipeline.settings import get_settings


def generate(
    checkpoint: Annotated[
        str,
        typer.Argument(help="`latest`, `best`, `promoted`, RUN, RUN/step-000200, or an s3:// URI."),
    ] = "latest",
    prompt: Annotated[str, typer.Option(help="Message to answer.")] = "I feel anxious and I cannot sleep.",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of the answer in tokens.")] = 120,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.9,
    seed: Seed = 0,
) -> None:
    """Answer one prompt with a trained checkpoint.

    \b
    Examples:
      pixel generate latest --prompt "I cannot sleep."
      pixel generate promoted --temperature 0
    """
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
