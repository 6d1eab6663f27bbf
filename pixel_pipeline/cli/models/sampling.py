"""Options of the verbs that generate text."""

from typing import Annotated

import typer

Temperature = Annotated[
    float, typer.Option(min=0.0, help="Sampling temperature; 0 always takes the most likely token.")
]
TopP = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Sample from the most likely tokens with this total probability."),
]
Seed = Annotated[int, typer.Option(help="Random seed; equal seeds give equal text.")]
