"""Checkpoints on the local disk: complete ones, unfinished ones, and a disk that is full."""

from collections.abc import Callable
from pathlib import Path
import subprocess
import sys

import pytest

from pixel_pipeline.training.checkpoints.spool import Marks, Spool
from pixel_pipeline.training.errors import CheckpointSpaceError, RunBusyError

# Arguments: spool, way of writing, file size limit. Prints the error's class, the names in the spool, and the error.
WRITER = """
from pathlib import Path
import resource
import sys
import numpy as np
from safetensors.numpy import save_file
from pixel_pipeline.errors import PixelError
from pixel_pipeline.training.checkpoints.spool import Marks, Spool

spool, how, limit = Spool(Path(sys.argv[1]), run="nano-1"), sys.argv[2], int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
weights = np.zeros(1_000_000, dtype=np.float32)
try:
    with spool.writing(7, Marks(), bytes_needed=100_000) as folder:
        (folder / "state.json").write_bytes(b"{}")
        if how == "plain":
            (folder / "model.safetensors").write_bytes(weights.tobytes())
        else:
            save_file({"weights": weights}, folder / "model.safetensors")
except PixelError as error:
    print(type(error).__name__, sorted(path.name for path in Path(sys.argv[1]).iterdir()), error)
"""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", run="nano-1")


def write(spool: Spool, step: int, marks: Marks | None = None, *, content: bytes = b"weights") -> None:
    with spool.writing(step, marks or Marks(), bytes_needed=1) as folder:
        (folder / "model").write_bytes(content)
        (folder / "state.json").write_bytes(b"{}")


def test_a_written_checkpoint_is_complete(spool: Spool) -> None:
    write(spool, 6)
    write(spool, 7, Marks(final=True, best=0.5))
    assert spool.steps() == [6, 7]
    assert spool.marks(6) == Marks()
    assert spool.marks(7) == Marks(final=True, best=0.5)
    spool.drop(6)
    spool.drop(7)
    assert spool.steps() == []
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_nothing(spool: Spool, error: type[BaseException]) -> None:
    def fail() -> None:
        with spool.writing(7, Marks(), bytes_needed=1) as folder:
            (folder / "model").write_bytes(b"weights")
            raise error

    with pytest.raises(error):
        fail()
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]


def test_an_existing_step_is_kept(spool: Spool) -> None:
    write(spool, 7, content=b"first")
    write(spool, 7, content=b"second")
    assert (spool.path(7) / "model").read_bytes() == b"first"


def test_too_little_space_is_reported_before_anything_is_written(spool: Spool) -> None:
    with (
        pytest.raises(
            CheckpointSpaceError, match=rf"{spool.folder} needs 1,000,000,000,000\.0 MB, but only .* are free"
        ),
        spool.writing(7, Marks(), bytes_needed=10**18),
    ):
        raise AssertionError("the block must not be entered")
    assert spool.steps() == []


def with_a_file_size_limit(folder: Path, how: str) -> str:
    command = [sys.executable, "-c", WRITER, str(folder), how, "200000"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def on_a_full_disk(folder: Path, how: str) -> str:
    """A 1 MB disk in memory, in namespaces of its own, which need no privileges."""
    script = 'mount -t tmpfs -o size=1m none "$1" || exit 77; exec "$2" -c "$3" "$1" "$4" 0'
    folder.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    done = subprocess.run([*command, folder, sys.executable, WRITER, how], capture_output=True, text=True)
    if "unshare" in done.stderr or done.returncode == 77:
        pytest.skip("this system has no user namespaces")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["plain", "safetensors"])
@pytest.mark.parametrize("run", [with_a_file_size_limit, on_a_full_disk])
def test_a_disk_that_fills_up_during_the_write(
    tmp_path: Path, run: Callable[[Path, str], str], how: str
) -> None:
    output = run(tmp_path / "spool", how)
    assert output.startswith("CheckpointSpaceError ['lock'] A checkpoint in"), output
    assert str(tmp_path / "spool") in output


def test_another_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from pixel_pipeline.training.checkpoints.spool import Spool;"
        "spool = Spool(pathlib.Path(sys.argv[1]), run='nano-1'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError, match=f"pid {process.pid}"):
            Spool(tmp_path, run="nano-1")
        process.kill()
    Spool(tmp_path, run="nano-1").release()


def test_unfinished_folders_of_a_killed_process_are_removed(spool: Spool) -> None:
    write(spool, 7)
    for name in ("step-000008.writing", "step-000006.dropping"):
        (spool.folder / name).mkdir()
        (spool.folder / name / "model").write_bytes(b"half")
    spool.release()
    again = Spool(spool.folder, run="nano-1")
    assert sorted(path.name for path in again.folder.iterdir()) == ["lock", "step-000007"]
