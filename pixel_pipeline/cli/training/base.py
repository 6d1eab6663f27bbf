"""`pixel base add | list`: base models, which adapters are trained on."""

from typing import Annotated

import typer

from pixel_pipeline.cli.console import Json, print_json, say
from pixel_pipeline.cli.tables import Column, print_table
from pixel_pipeline.settings import get_settings

base = typer.Typer(help="Add and list base models for adapters.", no_args_is_help=True)


@base.command("add")
def base_add(
    source: Annotated[
        str,
        typer.Argument(
            help="`smollm2` (SmolLM2-135M-Instruct, 100 MB), a folder with safetensors, or a Hugging Face id (owner/name)."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name in the lake. Default: the name of the source.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX identifier, if the model's README does not state it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy a base model into the lake.

    Records digests, licence and source. A model that is in the lake already is not copied again.

    \b
    Examples:
      pixel base add smollm2
      pixel base add mistralai/Mistral-Nemo-Base-2407 --name nemo
    """
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
        report=say,
    )
    if as_json:
        print_json(manifest.to_json())
        return
    say(
        f"{manifest.name}: {manifest.architecture}, {manifest.parameters / 1e6:,.1f} M parameters, {manifest.dtype}, "
        f"licence {manifest.licence}, digest {manifest.digest[:12]}"
    )


@base.command("list")
def base_list(as_json: Json = False) -> None:
    """List the base models in the lake."""
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.registry.base_models import BaseManifest, base_names

    lake = Lake.open(get_settings())
    lake.check()
    manifests = [BaseManifest.load(lake, name) for name in base_names(lake)]
    if as_json:
        print_json([manifest.to_json() for manifest in manifests])
        return
    if not manifests:
        say("The lake has no base model. `pixel base add smollm2` adds a small one.")
        return
    print_table(
        [
            Column("name"),
            Column("architecture"),
            Column("parameters", numeric=True),
            Column("MB", numeric=True),
            *(Column(name) for name in ("dtype", "licence", "digest", "source")),
        ],
        [
            (
                manifest.name,
                manifest.architecture,
                f"{manifest.parameters:,}",
                f"{manifest.bytes / 1e6:,.0f}",
                manifest.dtype,
                manifest.licence,
                manifest.digest[:12],
                manifest.source,
            )
            for manifest in manifests
        ],
    )
