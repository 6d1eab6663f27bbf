"""The real rclone, with the lake as a remote that exists only in its environment."""

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
# Nobody's own remote is called that, so nothing of a configuration file mixes with it.
REMOTE = "pixellake"
EXIT_USAGE = 2
REQUEST_TRIES = 10
STOP_SECONDS = 10
# What of rclone's environment is the user's: remotes, the Drive's options and the password of the configuration file. The
# rest is ours; RCLONE_VERBOSE or RCLONE_DUMP would show tokens.
_OWN_VARIABLES = ("RCLONE_CONFIG", "RCLONE_DRIVE_", "RCLONE_PASSWORD_COMMAND", "RCLONE_TPSLIMIT")
_DRIVE_DEFAULTS = {
    # Of Google's own formats, those that the conversion reads.
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
    """Nothing could be copied, or not everything. Names the source, the destination and the reason."""


class TransientSyncError(SyncError):
    """The same may succeed a little later."""

    transient = True


@dataclass(frozen=True)
class Rclone:
    """rclone between a source and the lake's data bucket.

    Attributes:
        environment: Of the process; its secrets are on no command line.
        scratch: Folder for the files that rclone writes for us.
        flags: Of every command.
    """

    environment: Secret[dict[str, str]]
    scratch: Path
    flags: tuple[str, ...]

    def run(self, command: str, *arguments: str, on_event: Callable[[Event], None]) -> int:
        """Run one command to its end, or end it when interrupted; returns its exit code.

        Args:
            on_event: Gets each line of rclone's JSON log.

        Raises:
            SyncError: rclone did not begin: an option, a pattern or a remote is wrong.
        """
        process = subprocess.Popen(
            [_binary(), command, *self.flags, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.environment.get_secret_value(),
        )
        refusal = ""
        assert process.stderr is not None
        try:
            for line in process.stderr:
                event = _parse(line)
                if event.get("level") == "critical":
                    refusal = str(event.get("msg"))
                else:
                    on_event(event)
            code = process.wait()
        finally:
            _stop(process)
        if code == EXIT_USAGE or (code != 0 and refusal):
            raise _refused(refusal, code=code)
        return code


def subject(event: Event) -> str | None:
    """The file that an event is about, a folder with a slash at its end, or None for source and destination as a whole."""
    kind = str(event.get("objectType", ""))
    name = event.get("object")
    if not name or kind.endswith(".Fs"):
        return None
    return f"{name}/" if kind == "string" else str(name)


@contextmanager
def open_rclone(lake: Lake, options: SyncOptions) -> Iterator[Rclone]:
    """rclone with the lake as remote `pixellake:` and the given options."""
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
            # They ask S3 for each object's time, and spend theirs waiting.
            f"--checkers={4 * options.transfers}",
            # The attempts are ours, as rclone's would repeat what cannot succeed; requests are repeated by it, ever slower.
            "--retries=1",
            f"--low-level-retries={REQUEST_TRIES}",
            "--contimeout=20s",
            # Never `--fast-list`, although it asks a Drive less often: it has been seen to take a refused listing for an empty
            # one, and to miss folders; listed one by one, those that can be listed arrive.
            # The whole is known before the first byte moves, so progress is of the whole.
            "--check-first",
            # A link could point anywhere on the machine; only what lies in the folder is copied.
            "--skip-links",
            # Names that differ in their bytes are different files, as they are different keys.
            "--no-unicode-normalization",
            f"--filter-from={rules}",
        ]
        if options.bandwidth is not None:
            flags.append(f"--bwlimit={options.bandwidth}")
        if lake.target.ca_bundle is not None:
            # Given one, rclone trusts no others; the Drive needs the system's.
            system = next((path for path in _SYSTEM_AUTHORITIES if Path(path).is_file()), None)
            flags += [f"--ca-cert={path}" for path in (lake.target.ca_bundle, system) if path is not None]
        yield Rclone(
            environment=Secret(_environment(lake.target, cache=scratch / "cache")),
            scratch=scratch,
            flags=tuple(flags),
        )


def remote_path(lake: Lake, prefix: str) -> str:
    """A folder of the data bucket as rclone names it."""
    return f"{REMOTE}:{lake.data.name}/{prefix}"


def require_nameable(source: str) -> None:
    """Refuse a source that carries options: they would be on a command line and in logs, and may be secrets.

    Raises:
        SyncError: `name,option=…:` or `:backend,option=…:`.
    """
    name, colon, _ = source.removeprefix(":").partition(":")
    if colon and "," in name and not source.startswith(("/", ".")):
        raise SyncError(
            "The source to sync from carries options of its remote.",
            hint="Name a remote alone (`gdrive:Folder`) and give its options as RCLONE_CONFIG_GDRIVE_… variables.",
        )


def _environment(target: Target, *, cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
    env_file = Settings.model_config.get("env_file")
    variables = {**(dotenv_values(env_file) if isinstance(env_file, Path) else {}), **os.environ}
    own = {
        name: value
        for name, value in variables.items()
        if name.startswith(_OWN_VARIABLES)
        and not name.startswith(f"RCLONE_CONFIG_{REMOTE.upper()}_")
        and value
    }
    if target.ca_bundle is not None and kept.get("SSL_CERT_FILE") == str(target.ca_bundle):
        # It was set for delta-rs, and would hide the system's authorities.
        del kept["SSL_CERT_FILE"]
    lake = {
        "TYPE": "s3",
        "PROVIDER": "Other" if target.endpoint else "AWS",
        "ACCESS_KEY_ID": target.access_key,
        "SECRET_ACCESS_KEY": target.secret_key.get_secret_value(),
        "SESSION_TOKEN": target.session_token.get_secret_value() if target.session_token else None,
        "REGION": target.region,
        "ENDPOINT": target.endpoint,
        # The settings check the bucket; rclone's own check would need the right to create one.
        "NO_CHECK_BUCKET": "true",
        # Keys with control characters break listings, and SeaweedFS takes a backslash for a slash: such a character is
        # stored as its picture, e.g. ␊.
        "ENCODING": "Slash,InvalidUtf8,Dot,Ctl,Del,BackSlash",
    }
    return (
        kept
        | _DRIVE_DEFAULTS
        | own
        | {"RCLONE_CACHE_DIR": str(cache)}
        | {
            f"RCLONE_CONFIG_{REMOTE.upper()}_{name}": value
            for name, value in lake.items()
            if value is not None
        }
    )


def _parse(line: bytes) -> Event:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        # Before its logger is set up rclone writes plain text.
        text = line.decode(errors="replace")
        refused = "CRITICAL" in text or text.startswith("Error: ")
        return {"level": "critical", "msg": text} if refused else {}
    return event if isinstance(event, dict) else {}


def _refused(message: str, *, code: int) -> SyncError:
    if code == EXIT_USAGE:
        return SyncError(
            "rclone does not accept its options.",
            hint="Correct PIXEL_SYNC_BANDWIDTH: `20M` for 20 MiB/s, or a timetable as in `08:00,5M 19:00,off`.",
        )
    if '"filter" options' in message:
        return SyncError(
            "rclone does not accept a filter pattern.",
            hint="Correct PIXEL_SYNC_INCLUDE and PIXEL_SYNC_EXCLUDE: patterns as in `*.jsonl;/Team A/**`.",
        )
    if "didn't find section in config file" in message:
        return SyncError(
            "rclone knows no remote of the name that PIXEL_DRIVE_REMOTE gives.",
            hint="Configure it by RCLONE_CONFIG_<NAME>_* variables or by `rclone config`.",
        )
    return SyncError(
        f"rclone cannot open the remote ({reason_of(message)}).",
        hint="Check PIXEL_DRIVE_REMOTE and the variables RCLONE_CONFIG_* of its remote, above all the token or key file.",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it in good order: it gives up uploads in parts; then by force."""
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
