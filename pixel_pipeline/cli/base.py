"""`pixel base add | list`: the dense models that adapters are trained on."""

from typing import Annotated

import typer

from pixel_pipeline.cli.console import Json, err, out, print_json
from pixel_pipeline.settings import get_settings

base = typer.Typer(help="Base models in the lake: what adapters are trained on.", no_args_is_help=True)


@base.command("add")
def base_add(
    source: Annotated[
        str,
        typer.Argument(
            help="`smollm2` (SmolLM2-135M-Instruct, 100 MB), a folder with safetensors, or a Hugging Face hub id (owner/name)."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="What it is called in the lake. Default: after its source.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX identifier, where the model's README does not state it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a base model into the lake, with digests, licence and source; what is there already is left alone."""
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.training.base.add import add_base

    settings = get_settings()
    lake = Lake.open(settings)
    lake.check()
    manifest = add_base(
        lake,
        source,
        name=name,
        licence=licence,
        home=settings.home,
        report=lambda line: err.print(line, markup=False, soft_wrap=True),
    )
    if as_json:
        print_json(manifest.to_json())
        return
    err.print(
        f"{manifest.name}: {manifest.architecture}, {manifest.parameters / 1e6:,.1f} M parameters, {manifest.dtype}, "
        f"licence {manifest.licence}, digest {manifest.digest[:12]}",
        markup=False,
        soft_wrap=True,
    )


@base.command("list")
def base_list(as_json: Json = False) -> None:
    """The base models in the lake."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.registry.base_models import BaseManifest, base_names

    lake = Lake.open(get_settings())
    lake.check()
    manifests = [BaseManifest.load(lake, name) for name in base_names(lake)]
    if as_json:
        print_json([manifest.to_json() for manifest in manifests])
        return
    if not manifests:
        err.print("The lake has no base model. `pixel base add smollm2` brings a small one.")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("name", "architecture"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("dtype", "licence", "digest"):
        table.add_column(column, no_wrap=True)
    table.add_column("source", overflow="fold")
    for manifest in manifests:
        table.add_row(
            manifest.name,
            manifest.architecture,
            f"{manifest.parameters:,}",
            f"{manifest.bytes / 1e6:,.0f}",
            manifest.dtype,
            manifest.licence,
            manifest.digest[:12],
            manifest.source,
        )
    Console(width=max(out.width, 120), highlight=False).print(table)
