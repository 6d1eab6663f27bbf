"""Commands as a user types them: in the activated environment, in the project's root."""

from dataclasses import dataclass
import os
from pathlib import Path
import shlex
import signal
import subprocess
import sys

from pixel_pipeline.settings import CREDENTIAL_CHAIN, project_root

ACTIVATE = Path(sys.prefix) / "bin" / "activate"


@dataclass(frozen=True)
class Finished:
    """A finished command: exit code and all that it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


def shell(command: str, *, home: Path, timeout: float = 240, **variables: str) -> Finished:
    """Run a command line in a fresh activated shell."""
    process = start(command, home=home, **variables)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Finished(code=process.returncode, stdout=stdout, stderr=stderr)


def start(command: str, *, home: Path, **variables: str) -> "subprocess.Popen[str]":
    """Start a command line in a fresh activated shell, as the leader of a process group, as a terminal does."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIXEL_", "DAGSTER_", "AWS_", "OVH_", "PYTHONWARNINGS"))
    }
    assert not {name for pair in CREDENTIAL_CHAIN for name in pair} & set(clean)
    return subprocess.Popen(
        ["bash", "-c", f". {shlex.quote(str(ACTIVATE))} && exec {command}"],
        cwd=project_root(),
        env={**clean, "PIXEL_HOME": str(home), "PIXEL_WORKERS": "2", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
