"""`pixel export` and `pixel verify-export`: write a trained model for other programs, and verify the copy."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pixel_pipeline.cli.console import Json, print_json, say, suggest_next
from pixel_pipeline.cli.exit_codes import ExitCode
from pixel_pipeline.settings import get_settings
from pixel_pipeline.words import counted


class ExportFormat(StrEnum):
    """Files to write."""

    mixtral = "mixtral"
    adapter = "adapter"


class ExportDtype(StrEnum):
    """Data type of the weights."""

    bf16 = "bf16"
    fp32 = "fp32"


Base = Annotated[
    str | None,
    typer.Option(help="Name or path of the base model. Default: the one that was trained on."),
]


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="`latest`, `best`, `promoted`, RUN, RUN/step-000200, an s3:// URI, or a folder (./… or /…)."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write to. It must be empty or not exist.")],
    export_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="mixtral: a whole model that other programs load; adapter: only the adapters."
        ),
    ] = ExportFormat.mixtral,
    dtype: Annotated[
        ExportDtype, typer.Option(help="Data type of the weights of a mixtral.")
    ] = ExportDtype.bf16,
    base: Base = None,
    as_json: Json = False,
) -> None:
    """Export a checkpoint as a model for other programs.

    Writes adapters as a native Mixtral, with tokenizer and chat template.

    \b
    Examples:
      pixel export latest --output out/mixtral
      pixel export promoted --output out/adapter --format adapter
    """
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.export.commands import export_checkpoint

    settings = get_settings()
    record = export_checkpoint(
        Lake.open(settings),
        checkpoint,
        output,
        kind=export_format.value,
        dtype=dtype.value,
        base=base,
        home=settings.home,
        report=say,
    )
    if as_json:
        print_json({"folder": str(output), "bytes": record.bytes, **asdict(record)})
        return
    say(f"{output}: {counted(record.bytes, 'byte')} in {counted(len(record.files), 'file')}")
    if record.kind == "mixtral":
        suggest_next(f"pixel verify-export {output}")


def verify_export(
    folder: Annotated[Path, typer.Argument(help="Folder that `pixel export` wrote.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Adapters that it was made from, if they have moved.")
    ] = None,
    base: Base = None,
    rows: Annotated[int, typer.Option(min=1, help="Number of conversations to compare on.")] = 8,
    length: Annotated[int, typer.Option(min=1, help="Maximum length of each in tokens.")] = 128,
    as_json: Json = False,
) -> None:
    """Check that an export is the same model.

    Loads it in plain transformers and compares its logits with base and adapters. Exit code 1 if it is another model.

    \b
    Example:
      pixel verify-export out/mixtral
    """
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.export.commands import verify_folder

    settings = get_settings()
    result = verify_folder(
        Lake.open(settings),
        folder,
        checkpoint=checkpoint,
        base=base,
        rows=rows,
        length=length,
        home=settings.home,
    )
    if as_json:
        print_json(result.to_json())
    else:
        say(
            f"{'the same model' if result.passed else 'NOT the same model'} ({result.dtype}, "
            f"{counted(result.tokens, 'token')}): largest logit difference {result.max_logit_difference:.2g} in "
            f"{result.arithmetic} arithmetic ({result.served_logit_difference:.2g} as served); KL divergence mean "
            f"{result.mean_kl:.2g}, max {result.max_kl:.2g} nats; top-1 agreement {result.same_choice:.1%}"
        )
    if not result.passed:
        raise typer.Exit(ExitCode.NEGATIVE)
