"""Run the rclone binary, with the lake as a remote configured only in its environment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from dotenv import dotenv_values
import orjson
from pydantic import Secret

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.target import Target
from pixel_pipeline.settings import Settings
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.reasons import reason_of

Event = dict[str, Any]
# An unlikely name, so that the user's configuration file does not define the same remote.
REMOTE = "pixellake"
EXIT_USAGE = 2
REQUEST_TRIES = 10
STOP_SECONDS = 10
# rclone variables passed on from the user: remotes, Drive options, the password of the configuration file. Others are
# dropped; RCLONE_VERBOSE and RCLONE_DUMP would log tokens.
_USER_VARIABLES = ("RCLONE_CONFIG", "RCLONE_DRIVE_", "RCLONE_PASSWORD_COMMAND", "RCLONE_TPSLIMIT")
_DRIVE_DEFAULTS = {
    # Export Google's own formats as those that the conversion reads.
    "RCLONE_DRIVE_EXPORT_FORMATS": "txt,csv,svg",
    "RCLONE_DRIVE_SCOPE": "drive.readonly",
}
_SYSTEM_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class SyncError(PixelError):
    """A copy failed, wholly or in part. Names the source, the destination and the reason."""


class TransientSyncError(SyncError):
    """A sync error that a retry may resolve."""

    transient = True


@dataclass(frozen=True)
class Rclone:
    """An rclone that can reach the source and the lake's data bucket.

    Attributes:
        environment: Environment of the process; holds the secrets, which never appear on the command line.
        scratch: Folder for rclone's output files.
        flags: Flags of every command.
    """

    environment: Secret[dict[str, str]]
    scratch: Path
    flags: tuple[str, ...]

    def run(self, command: str, *arguments: str, on_event: Callable[[Event], None]) -> int:
        """Run one command and return its exit code; stop it when interrupted.

        Args:
            on_event: Receives each line of rclone's JSON log.

        Raises:
            SyncError: rclone did not start: an option, a pattern or a remote is wrong.
        """
        process = subprocess.Popen(
            [_binary(), command, *self.flags, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.environment.get_secret_value(),
        )
        startup_error = ""
        assert process.stderr is not None
        try:
            for line in process.stderr:
                event = _parse(line)
                if event.get("level") == "critical":
                    startup_error = str(event.get("msg"))
                else:
                    on_event(event)
            code = process.wait()
        finally:
            _stop(process)
        if code == EXIT_USAGE or (code != 0 and startup_error):
            raise _startup_error(startup_error, code=code)
        return code


def subject(event: Event) -> str | None:
    """Return an event's file, its folder with a trailing slash, or None for the source or destination as a whole."""
    kind = str(event.get("objectType", ""))
    name = event.get("object")
    if not name or kind.endswith(".Fs"):
        return None
    return f"{name}/" if kind == "string" else str(name)


@contextmanager
def open_rclone(lake: Lake, options: SyncOptions) -> Iterator[Rclone]:
    """Set up rclone with the lake as remote `pixellake:`."""
    with tempfile.TemporaryDirectory(prefix="pixel-sync-") as folder:
        scratch = Path(folder)
        rules = scratch / "filter.txt"
        rules.write_text(options.filter_rules(), encoding="utf-8")
        flags = [
            "--use-json-log",
            "--log-level=INFO",
            "--stats=1s",
            "--stats-log-level=NOTICE",
            "--ask-password=false",
            f"--transfers={options.transfers}",
            # Checkers request each object's time from S3 and mostly wait.
            f"--checkers={4 * options.transfers}",
            # `copy` retries transient failures only; rclone would retry all. rclone retries single requests, with backoff.
            "--retries=1",
            f"--low-level-retries={REQUEST_TRIES}",
            "--contimeout=20s",
            # No `--fast-list`, although it needs fewer Drive requests: it has treated a denied listing as empty, and missed
            # folders. Listed one by one, all readable folders arrive.
            # Compare everything before the first transfer, so that progress covers the whole copy.
            "--check-first",
            # A link could point outside the folder.
            "--skip-links",
            # Names with different bytes are different keys.
            "--no-unicode-normalization",
            f"--filter-from={rules}",
        ]
        if options.bandwidth is not None:
            flags.append(f"--bwlimit={options.bandwidth}")
        if lake.target.ca_bundle is not None:
            # `--ca-cert` replaces the system's authorities, which the Drive needs.
            system = next((path for path in _SYSTEM_AUTHORITIES if Path(path).is_file()), None)
            flags += [f"--ca-cert={path}" for path in (lake.target.ca_bundle, system) if path is not None]
        yield Rclone(
            environment=Secret(_environment(lake.target, cache=scratch / "cache")),
            scratch=scratch,
            flags=tuple(flags),
        )


def remote_path(lake: Lake, prefix: str) -> str:
    """Return rclone's path of a folder in the data bucket."""
    return f"{REMOTE}:{lake.data.name}/{prefix}"


def reject_inline_options(source: str) -> None:
    """Reject a source with inline options: they may be secrets, and would show on the command line and in logs.

    Raises:
        SyncError: the source has the form `name,option=…:` or `:backend,option=…:`.
    """
    name, colon, _ = source.removeprefix(":").partition(":")
    if colon and "," in name and not source.startswith(("/", ".")):
        raise SyncError(
            "The sync source contains options of its remote.",
            hint="Give only the remote's name (`gdrive:Folder`), and its options as RCLONE_CONFIG_GDRIVE_… variables.",
        )


def _environment(target: Target, *, cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
    env_file = Settings.model_config.get("env_file")
    variables = {**(dotenv_values(env_file) if isinstance(env_file, Path) else {}), **os.environ}
    lake_prefix = f"RCLONE_CONFIG_{REMOTE.upper()}_"
    user = {
        name: value
        for name, value in variables.items()
        if value and name.startswith(_USER_VARIABLES) and not name.startswith(lake_prefix)
    }
    if target.ca_bundle is not None and kept.get("SSL_CERT_FILE") == str(target.ca_bundle):
        # Set for delta-rs; it would hide the system's authorities.
        del kept["SSL_CERT_FILE"]
    lake = {
        "TYPE": "s3",
        "PROVIDER": "Other" if target.endpoint else "AWS",
        "ACCESS_KEY_ID": target.access_key,
        "SECRET_ACCESS_KEY": target.secret_key.get_secret_value(),
        "SESSION_TOKEN": target.session_token.get_secret_value() if target.session_token else None,
        "REGION": target.region,
        "ENDPOINT": target.endpoint,
        # Our callers check the bucket; rclone's own check needs permission to create one.
        "NO_CHECK_BUCKET": "true",
        # Control characters in keys break listings, and SeaweedFS reads a backslash as a slash: store such a character as
        # its picture, e.g. ␊.
        "ENCODING": "Slash,InvalidUtf8,Dot,Ctl,Del,BackSlash",
    }
    return (
        kept
        | _DRIVE_DEFAULTS
        | user
        | {"RCLONE_CACHE_DIR": str(cache)}
        | {f"{lake_prefix}{name}": value for name, value in lake.items() if value is not None}
    )


def _parse(line: bytes) -> Event:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        # rclone writes plain text until its logger is set up.
        text = line.decode(errors="replace")
        critical = "CRITICAL" in text or text.startswith("Error: ")
        return {"level": "critical", "msg": text} if critical else {}
    return event if isinstance(event, dict) else {}


def _startup_error(message: str, *, code: int) -> SyncError:
    if code == EXIT_USAGE:
        return SyncError(
            "rclone rejected its options.",
            hint="Correct PIXEL_SYNC_BANDWIDTH: `20M` for 20 MiB/s, or a timetable such as `08:00,5M 19:00,off`.",
        )
    if '"filter" options' in message:
        return SyncError(
            "rclone rejected a filter pattern.",
            hint="Correct PIXEL_SYNC_INCLUDE and PIXEL_SYNC_EXCLUDE: patterns such as `*.jsonl;/Team A/**`.",
        )
    if "didn't find section in config file" in message:
        return SyncError(
            "rclone has no remote of the name in PIXEL_DRIVE_REMOTE.",
            hint="Configure it with RCLONE_CONFIG_<NAME>_* variables or `rclone config`.",
        )
    return SyncError(
        f"rclone cannot open the remote ({reason_of(message)}).",
        hint="Check PIXEL_DRIVE_REMOTE and its remote's RCLONE_CONFIG_* variables, above all the token or key file.",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate rclone, which then aborts its multipart uploads; kill it if it does not exit."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _binary() -> str:
    beside_python = Path(sys.executable).parent / "rclone"
    found = str(beside_python) if beside_python.is_file() else shutil.which("rclone")
    if found is None:
        raise SyncError("The rclone binary is not installed.", hint="Run `make setup`.")
    return found
