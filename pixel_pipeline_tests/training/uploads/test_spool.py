"""The local disk: what is whole, what is damaged, what happens when it is full."""

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import sys
import tempfile

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.training.checkpoints.spool import Marks, Spool
from pixel_pipeline.training.errors import CheckpointCorruptError, CheckpointSpaceError, RunBusyError

# Arguments: the spool, how it is written. Prints the error's class, what the spool holds, and the error.
WRITER = """
from pathlib import Path
import resource
import sys
import numpy as np
from safetensors.numpy import save_file
from pixel_pipeline.errors import PixelError
from pixel_pipeline.training.checkpoints.spool import Spool

spool, how, limit = Spool(Path(sys.argv[1]), run="nano-1"), sys.argv[2], int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
weights = np.zeros(1_000_000, dtype=np.float32)
try:
    with spool.writing(7, bytes_needed=100_000) as folder:
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


def write(spool: Spool, step: int, *, content: bytes = b"weights") -> None:
    with spool.writing(step, bytes_needed=1) as folder:
        (folder / "model").write_bytes(content)
        (folder / "state.json").write_bytes(b"{}")


def test_what_is_written_is_whole(spool: Spool) -> None:
    write(spool, 7)
    assert spool.steps() == [7]
    assert [*spool.scan(7).digests] == ["model", "state.json"]
    assert spool.marks(7) == Marks()
    spool.mark(7, Marks(final=True, best=0.5))
    assert spool.marks(7) == Marks(final=True, best=0.5)
    spool.drop(7)
    spool.drop(7)
    assert spool.steps() == []
    spool.sweep()
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_nothing(spool: Spool, error: type[BaseException]) -> None:
    def fail() -> None:
        with spool.writing(7, bytes_needed=1) as folder:
            (folder / "model").write_bytes(b"weights")
            raise error

    with pytest.raises(error):
        fail()
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]


def test_of_a_step_that_is_there_the_first_stays(spool: Spool) -> None:
    write(spool, 7, content=b"first")
    write(spool, 7, content=b"second")
    assert (spool.path(7) / "model").read_bytes() == b"first"


@given(
    data=st.data(),
    content=st.binary(min_size=1, max_size=40),
    damage=st.sampled_from(["flip", "cut", "longer", "gone", "more", "note"]),
)
def test_any_damage_is_noticed(data: st.DataObject, content: bytes, damage: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        spool = Spool(Path(name), run="nano-1")
        write(spool, 7, content=content)
        spool.scan(7)
        path = spool.path(7) / "model"
        match damage:
            case "flip":
                place = data.draw(st.integers(0, len(content) - 1))
                path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            case "cut":
                os.truncate(path, data.draw(st.integers(0, len(content) - 1)))
            case "longer":
                path.write_bytes(content + b"0")
            case "gone":
                path.unlink()
            case "more":
                path.with_name("another").touch()
            case "note":
                (spool.path(7) / ".files.json").unlink()
        with pytest.raises(CheckpointCorruptError, match="damaged"):
            spool.scan(7)
        spool.release()


def test_too_little_space_is_told_before_anything_is_written(spool: Spool) -> None:
    with (
        pytest.raises(
            CheckpointSpaceError, match=rf"{spool.folder} needs 1,000,000,000,000\.0 MB, .* are free"
        ),
        spool.writing(7, bytes_needed=10**18),
    ):
        raise AssertionError("the block must not be entered")
    assert spool.steps() == []


def without_room(folder: Path, how: str) -> str:
    command = [sys.executable, "-c", WRITER, str(folder), how, "200000"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def on_a_full_disk(folder: Path, how: str) -> str:
    """In namespaces of its own: 1 MB of memory as disk, no right outside is needed."""
    script = 'mount -t tmpfs -o size=1m none "$1" || exit 77; exec "$2" -c "$3" "$1" "$4" 0'
    folder.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    done = subprocess.run([*command, folder, sys.executable, WRITER, how], capture_output=True, text=True)
    if "unshare" in done.stderr or done.returncode == 77:
        pytest.skip("this system gives no namespaces")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["plain", "safetensors"])
@pytest.mark.parametrize("run", [without_room, on_a_full_disk])
def test_a_disk_that_fills_while_writing(tmp_path: Path, run: Callable[[Path, str], str], how: str) -> None:
    told = run(tmp_path / "spool", how)
    assert told.startswith("CheckpointSpaceError ['lock'] A checkpoint in"), told
    assert str(tmp_path / "spool") in told


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


def test_what_a_killed_process_left_half_is_cleared_away(spool: Spool) -> None:
    write(spool, 7)
    for name in ("step-000008.writing", "step-000006.dropping"):
        (spool.folder / name).mkdir()
        (spool.folder / name / "model").write_bytes(b"half")
    spool.release()
    again = Spool(spool.folder, run="nano-1")
    assert sorted(path.name for path in again.folder.iterdir()) == ["lock", "step-000007"]
