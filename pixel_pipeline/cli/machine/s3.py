"""`pixel s3 up | down | status`: the embedded S3 server."""

from typing import Any

import typer

from pixel_pipeline.cli.console import Json, err, print_json, say
from pixel_pipeline.cli.exit_codes import ExitCode
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings

s3 = typer.Typer(
    help="Start, stop and show the embedded S3 server.\n\nIt is used while PIXEL_S3_ENDPOINT and credentials are not set.",
    no_args_is_help=True,
)


@s3.command("up")
def s3_up(as_json: Json = False) -> None:
    """Start the embedded server if it is not running."""
    from pixel_pipeline.lake import embedded

    settings = get_settings()
    _require_embedded()
    with err.status("starting the embedded S3 server"):
        server = embedded.ensure_running(settings.home, min_free_bytes=settings.min_free_bytes)
    _show_server(embedded.describe(server), as_json=as_json)


@s3.command("down")
def s3_down() -> None:
    """Stop the embedded server; its data stay on disk."""
    from pixel_pipeline.lake import embedded

    stopped = embedded.stop(get_settings().home)
    say(
        "The embedded server is stopped; its data stay."
        if stopped
        else "The embedded server was not running."
    )


@s3.command("status")
def s3_status(as_json: Json = False) -> None:
    """Show the endpoint and the data folder.

    Exit code 3 if the server is not running.
    """
    from pixel_pipeline.lake import embedded

    _require_embedded()
    server = embedded.status(get_settings().home)
    if server is None:
        if as_json:
            print_json({"running": False})
        say("The embedded server is not running. `pixel s3 up` starts it.")
        raise typer.Exit(ExitCode.NOT_RUNNING)
    _show_server({"running": True, **embedded.describe(server)}, as_json=as_json)


def _require_embedded() -> None:
    settings = get_settings()
    if not settings.uses_embedded_s3:
        raise PixelError(
            f"The embedded server is not used: the lake is at {settings.endpoint or 'AWS'}.",
            hint="Unset PIXEL_S3_ENDPOINT and the credential variables to use the embedded server.",
        )


def _show_server(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if name not in ("ports", "running"):
            say(f"{name:>9}  {value}")
