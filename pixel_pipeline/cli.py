"""The `pixel` command."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
import os
from pathlib import Path
import subprocess
import sys
from typing import Annotated, Any

import orjson
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table as RichTable
import typer

from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings, project_root

app = typer.Typer(
    help="Pixel Pipeline: raw conversations to mixture-of-experts checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables would show conversations and secrets.
    pretty_exceptions_enable=False,
)
s3 = typer.Typer(help="The embedded S3 server.", no_args_is_help=True)
app.add_typer(s3, name="s3")

# stdout is for results, stderr for everything that is said on the way.
err = Console(stderr=True, highlight=False)
out = Console(highlight=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
DEMO_JOBS = ("sync_raw", "prepare_data", "train_moe")


@app.command()
def demo() -> None:
    """Write the sample Drive, sync it, prepare it, train on it. What has not changed is not done again."""
    from pixel_pipeline.lake.store import Lake

    settings = get_settings()
    if not settings.uses_embedded_s3:
        raise PixelError(
            "`pixel demo` fills a lake with invented samples, and an S3 endpoint or key of yours is configured.",
            hint="Unset PIXEL_S3_ENDPOINT and the credential variables to run it on the embedded server.",
        )
    # The demo's own Drive and CPU profile, whatever else is configured.
    environment = _dagster_environment() | {
        "PIXEL_PROFILE": "demo",
        "PIXEL_DRIVE_REMOTE": str(settings.home / "drive"),
    }
    sample(output=None, conversations=5000, as_json=False)
    with err.status("starting the embedded S3 server"):
        Lake.open(settings)
    for job in DEMO_JOBS:
        err.print(f"\n[bold]dagster job execute -j {job}[/bold]")
        code = _run_job(job, environment)
        if code != 0:
            err.print(
                f"[red]The job {job} did not succeed.[/red] Run the demo again to go on from where it stopped."
            )
            raise typer.Exit(code)
    err.print()
    _show_status()
    err.print(
        "\nNext: [bold]make ui[/bold] shows the graph, the plots and every run in the browser;\n"
        '      [bold]. .venv/bin/activate && pixel generate latest --prompt "I cannot sleep."[/bold] talks to the model.'
    )


@app.command()
def sample(
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: the sample Drive.")
    ] = None,
    conversations: Annotated[int, typer.Option(min=150, help="How many conversations.")] = 5000,
    as_json: Json = False,
) -> None:
    """Write the sample Drive: a seeded folder of invented counselling conversations, with planted dirt."""
    from pixel_pipeline.sample.drive import write_sample_drive

    settings = get_settings()
    folder = output or settings.home / "drive"
    with err.status(f"writing the sample Drive to {folder}"):
        manifest = write_sample_drive(folder, seed=settings.seed, conversations=conversations)
    content = manifest.to_json()
    if output is None:
        (settings.home / "sample.json").write_text(content)
    if as_json:
        sys.stdout.write(content + "\n")
        return
    err.print(f"sample Drive: {folder}, {len(manifest.files)} files, seed {settings.seed}")


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="Folder or file to copy into the raw tier.")],
    name: Annotated[str | None, typer.Option("--as", help="Folder below `acquired/` to put it in.")] = None,
    as_json: Json = False,
) -> None:
    """Copy local files into the lake's raw tier, below `acquired/`. The job `prepare_data` then converts them."""
    from pixel_pipeline.lake import keys
    from pixel_pipeline.lake.store import Lake
    from pixel_pipeline.sync.rclone import copy_to_lake

    if not path.exists():
        raise PixelError(f"There is nothing at {path}.", hint="Give the path of a folder or a file.")
    prefix = keys.ACQUIRED if name is None else f"{keys.ACQUIRED}/{name.strip('/')}"
    lake = Lake.open(get_settings())
    lake.check()
    with _transfer_bar(f"copying {path}") as update:
        report = copy_to_lake(path, lake=lake, prefix=prefix, report=update)
    if as_json:
        _print_json(asdict(report))
        return
    err.print(
        f"{report.copied:,} objects copied to {report.destination}, {report.checked - report.copied:,} unchanged"
    )
    err.print("Next: [bold]dagster job execute -j prepare_data[/bold]")


@app.command()
def status(as_json: Json = False) -> None:
    """What the lake holds, by family: raw, converted, curated, tokens."""
    if as_json:
        _print_json(_status())
        return
    _show_status()


@app.command()
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
    from pixel_pipeline.lake.store import Lake
    from pixel_pipeline.training.generate import generate as stream

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


@s3.command("up")
def s3_up(as_json: Json = False) -> None:
    """Start the embedded server, if it is not running."""
    from pixel_pipeline.lake import embedded

    settings = get_settings()
    _require_embedded()
    with err.status("starting the embedded S3 server"):
        server = embedded.ensure_running(settings.home, min_free_bytes=settings.min_free_bytes)
    _show_server(embedded.describe(server), as_json=as_json)


@s3.command("down")
def s3_down() -> None:
    """Stop the embedded server. Its data stay."""
    from pixel_pipeline.lake import embedded

    stopped = embedded.stop(get_settings().home)
    err.print("stopped; its data stay" if stopped else "it was not running")


@s3.command("status")
def s3_status(as_json: Json = False) -> None:
    """Where the embedded server listens and keeps its data. Exit code 3 if it is not running."""
    from pixel_pipeline.lake import embedded

    _require_embedded()
    server = embedded.status(get_settings().home)
    if server is None:
        if as_json:
            _print_json({"running": False})
        err.print("not running; `pixel s3 up` starts it")
        raise typer.Exit(3)
    _show_server({"running": True, **embedded.describe(server)}, as_json=as_json)


def main() -> None:
    """Entry point: our own errors are told in a line or two, on stderr, with exit code 1."""
    try:
        app()
    except PixelError as error:
        err.print(f"[red]{type(error).__name__}[/red]: ", end="")
        err.print(str(error), markup=False)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)


def _dagster_environment() -> dict[str, str]:
    """What scripts/environment.sh gives an activated shell, for those who call `pixel` by its path."""
    settings = get_settings()
    storage = settings.home / "dagster"
    storage.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "DAGSTER_HOME": str(project_root()),
        "DAGSTER_CLI_JOB_EXECUTE_MODULE_NAME": "pixel_pipeline.definitions",
        "DAGSTER_CLI_JOB_EXECUTE_CONFIG": str(project_root() / "scripts" / "console.yaml"),
        "PIXEL_DAGSTER_STORAGE": str(storage),
        "PIXEL_HOME": str(settings.home),
    }


def _run_job(job: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "job", "execute", "-j", job]
    process = subprocess.Popen(command, env=environment, cwd=project_root())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent Ctrl-C to the job as well; it ends in good order, and its exit code is ours.
            err.print("interrupting …")


def _status() -> dict[str, Any]:
    from pixel_pipeline.conversations.families import FamilyConfig
    from pixel_pipeline.curation.accounts import read_accounts
    from pixel_pipeline.lake.store import Lake
    from pixel_pipeline.tokens.shards import ShardManifest, TokenShardsNotFoundError, current_manifest_key

    settings = get_settings()
    lake = Lake.open(settings)
    lake.check()
    accounts = read_accounts(lake, FamilyConfig.load(settings.families_file))
    tokens: dict[str, dict[str, int]] = {}
    try:
        tokens = ShardManifest.load(lake.data, current_manifest_key(lake.data)).families
    except TokenShardsNotFoundError:
        err.print("no token shards yet", style="dim")
    families = [
        {
            "family": account.family,
            "objects": account.objects,
            "bytes": account.bytes,
            "records": account.records_in,
            "converted": account.converted,
            "quarantined": dict(account.quarantined),
            "dropped": dict(account.skipped + account.dropped),
            "curated": account.curated.total(),
            "tokens": tokens.get(account.family, {}).get("tokens", 0),
        }
        for account in accounts.values()
    ]
    return {"bucket": lake.data.name, "endpoint": lake.target.endpoint, "families": families}


def _show_status() -> None:
    report = _status()
    families = report["families"]
    if not families:
        err.print(
            "The lake is empty. `make demo` fills it with samples; `pixel ingest PATH` and `dagster job execute -j "
            "prepare_data` with your own."
        )
        return
    table = RichTable(
        title=f"s3://{report['bucket']}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_footer=len(families) > 1,
        padding=(0, 1, 0, 0),
    )
    numeric = ("files", "records", "converted", "quar.", "dropped", "curated", "tokens")
    rows = [
        (
            family["family"],
            family["objects"],
            family["records"],
            family["converted"],
            sum(family["quarantined"].values()),
            sum(family["dropped"].values()),
            family["curated"],
            family["tokens"],
        )
        for family in families
    ]
    # Where the terminal is narrow the family's name gives way, no number does.
    table.add_column(
        "family", footer="all", overflow="ellipsis", no_wrap=True, max_width=max(13, out.width - 66)
    )
    for index, name in enumerate(numeric, 1):
        table.add_column(name, justify="right", no_wrap=True, footer=_number(sum(row[index] for row in rows)))
    for row in rows:
        table.add_row(row[0], *(_number(value) for value in row[1:]))
    Console(width=max(out.width, 200), highlight=False).print(table)
    for kind in ("quarantined", "dropped"):
        total: dict[str, int] = {}
        for family in families:
            for reason, n in family[kind].items():
                total[reason] = total.get(reason, 0) + n
        if total:
            out.print(f"{kind}: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(total.items())))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _require_embedded() -> None:
    settings = get_settings()
    if not settings.uses_embedded_s3:
        raise PixelError(
            f"Nothing is embedded here: the lake is at {settings.endpoint or 'AWS'}.",
            hint="Unset PIXEL_S3_ENDPOINT and the credential variables to use the embedded server.",
        )


def _show_server(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(facts)
        return
    for name, value in facts.items():
        if name not in ("ports", "running"):
            err.print(f"{name:>9}  {value}")


@contextmanager
def _transfer_bar(label: str) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(label, total=None)

        def update(stats: dict[str, Any]) -> None:
            progress.update(task, completed=stats.get("bytes", 0), total=stats.get("totalBytes") or None)

        yield update


def _print_json(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
