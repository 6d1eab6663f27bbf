"""`pixel export` and `pixel verify-export`: a trained model for other programs, and the proof that it is the same one."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pixel_pipeline.cli.console import EXIT_ERROR, Json, err, print_json
from pixel_pipeline.settings import get_settings


class ExportFormat(StrEnum):
    """What is written."""

    mixtral = "mixtral"
    adapter = "adapter"


class ExportDtype(StrEnum):
    """Of the weights."""

    bf16 = "bf16"
    fp32 = "fp32"


Base = Annotated[
    str | None,
    typer.Option(help="Name or path of the base model, where it is not the one that was trained on."),
]


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="`latest`, a run, an s3:// URI, or the path of a folder (./… or /…).")
    ],
    output: Annotated[Path, typer.Option(help="Folder to write; must not exist, or be empty.")],
    export_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="mixtral: a whole model that other programs load; adapter: the adapters alone."
        ),
    ] = ExportFormat.mixtral,
    dtype: Annotated[ExportDtype, typer.Option(help="Of the weights of a mixtral.")] = ExportDtype.bf16,
    base: Base = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint of adapters as a native Mixtral, with tokenizer and chat template."""
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
        report=lambda line: err.print(line, markup=False, soft_wrap=True),
    )
    if as_json:
        print_json({"folder": str(output), "bytes": record.bytes, **asdict(record)})
        return
    err.print(f"{output}: {record.bytes:,} bytes in {len(record.files)} files", markup=False, soft_wrap=True)
    if record.kind == "mixtral":
        err.print(f"Next: pixel verify-export {output}", markup=False, soft_wrap=True)


def verify_export(
    folder: Annotated[Path, typer.Argument(help="What `pixel export` wrote.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="The adapters it was made of, where they have moved since.")
    ] = None,
    base: Base = None,
    rows: Annotated[int, typer.Option(min=1, help="Conversations to compare on.")] = 8,
    length: Annotated[int, typer.Option(min=1, help="Tokens of each at most.")] = 128,
    as_json: Json = False,
) -> None:
    """Load an export in plain transformers and compare it with base and adapters; fails where it is another model."""
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
        err.print(
            f"{'the same model' if result.passed else 'NOT the same model'} ({result.dtype}, {result.tokens:,} tokens): "
            f"largest difference of a logit {result.max_logit_difference:.2g} in {result.arithmetic} arithmetic "
            f"({result.served_logit_difference:.2g} as served); KL mean {result.mean_kl:.2g}, max "
            f"{result.max_kl:.2g} nats; same likeliest token {result.same_choice:.1%}",
            soft_wrap=True,
        )
    if not result.passed:
        raise typer.Exit(EXIT_ERROR)
