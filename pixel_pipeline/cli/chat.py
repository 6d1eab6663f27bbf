"""`pixel chat`: a conversation with a trained model."""

from collections.abc import Iterator
import sys
from typing import Annotated

import typer

from pixel_pipeline.cli.console import err, out
from pixel_pipeline.settings import get_settings


def chat(
    model: Annotated[
        str,
        typer.Argument(
            help="`latest`, `promoted`, a run, an s3:// URI, or the folder of an export (./… or /…)."
        ),
    ] = "latest",
    system: Annotated[str | None, typer.Option(help="A system message that stands before all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 200,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.7,
    top_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Nucleus of the distribution to draw from.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal text.")] = 0,
) -> None:
    """Talk with a model, through plain transformers. What is piped in is one message, answered once. Nothing is stored."""
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.inference.chat import Conversation
    from pixel_pipeline.training.inference.generate import Sampling, open_speaker

    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    speaker = open_speaker(model, lambda: Lake.open(get_settings()))
    conversation = Conversation(speaker, sampling, system=system)
    interactive = sys.stdin.isatty()
    if interactive:
        err.print(
            "A research model: no counsellor, and no help in an emergency. /new begins anew, Ctrl-D ends."
        )
    for text in _typed() if interactive else [sys.stdin.read().strip()]:
        if text == "/new":
            conversation.clear()
        elif text:
            for piece in conversation.say(text):
                out.print(piece, end="", markup=False, soft_wrap=True)
            out.print()


def _typed() -> Iterator[str]:
    while True:
        try:
            yield input("you> ").strip()
        except EOFError:
            err.print()
            return
