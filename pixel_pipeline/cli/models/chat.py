"""`pixel chat`: a conversation with a trained model."""

from collections.abc import Iterator
import sys
from typing import Annotated

import typer

from pixel_pipeline.cli.console import err, out, say
from pixel_pipeline.cli.models.sampling import Seed, Temperature, TopP
from pixel_pipeline.settings import get_settings


def chat(
    model: Annotated[
        str,
        typer.Argument(
            help="`latest`, `best`, `promoted`, RUN, RUN/step-000200, an s3:// URI, or the folder of an export (./… or /…)."
        ),
    ] = "latest",
    system: Annotated[
        str | None, typer.Option(help="System message at the start of the conversation.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of an answer in tokens.")] = 200,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.9,
    seed: Seed = 0,
) -> None:
    """Chat with a trained model.

    Nothing is stored. Input from a pipe is one message and is answered once.

    \b
    Examples:
      pixel chat
      pixel chat ./out/mixtral
      echo "I cannot sleep." | pixel chat promoted
    """
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.inference.chat import Conversation
    from pixel_pipeline.training.inference.generate import Sampling, open_speaker

    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    speaker = open_speaker(model, lambda: Lake.open(get_settings()))
    conversation = Conversation(speaker, sampling, system=system)
    interactive = sys.stdin.isatty()
    if interactive:
        say(
            "This is a research model, not a counsellor, and no help in an emergency. "
            "/new starts a new conversation, Ctrl-D ends."
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
