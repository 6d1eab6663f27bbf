"""Background uploads: order, replacement, pointers, outages, a second writer, shutdown."""

from collections.abc import Callable
import os
from pathlib import Path
import re
import subprocess
import sys
import threading

import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.claim import RunClaim
from pixel_pipeline.training.checkpoints.spool import Marks, Spool
from pixel_pipeline.training.checkpoints.store import (
    CheckpointManifest,
    CheckpointRef,
    best_step,
    download,
    list_checkpoints,
    publish,
)
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
from pixel_pipeline.training.errors import CheckpointNotFoundError, CheckpointUploadError, RunBusyError
from pixel_pipeline_tests.faults import Fault, FaultProxy
from pixel_pipeline_tests.training.checkpoints.conftest import RUN, write

Start = Callable[..., CheckpointUploads]
PATIENCE_SECONDS = 120
# The client does not retry this status.
AWAY = Fault("status", status=403, code="AccessDenied")


def steps(lake: Lake) -> list[int]:
    return [ref.step for ref in list_checkpoints(lake.checkpoints, RUN)]


def spooled(folder: Path) -> list[str]:
    """Names of the complete checkpoints on the local disk."""
    return sorted(path.name for path in folder.iterdir() if re.fullmatch(r"step-\d+", path.name))


def pointer(lake: Lake) -> int:
    step: int = lake.checkpoints.get_json(f"{RUN}/latest.json")["step"]
    return step


def test_checkpoints_are_uploaded_and_old_ones_deleted(
    lake: Lake, start: Start, lines: list[str], tmp_path: Path
) -> None:
    uploads = start()
    for step in (10, 20, 30):
        write(uploads, step)
        uploads.flush(timeout=PATIENCE_SECONDS)
    write(uploads, 40, final=True)
    assert uploads.close(timeout=PATIENCE_SECONDS) == uploads.durable == 40
    assert uploads.problem is None
    assert steps(lake) == [30, 40]
    assert pointer(lake) == 40
    assert [CheckpointManifest.load(lake, ref).final for ref in list_checkpoints(lake.checkpoints, RUN)] == [
        False,
        True,
    ]
    assert spooled(tmp_path / "spool") == []
    assert f"checkpoint {CheckpointRef(run=RUN, step=40).uri(lake)}" in lines
    # Nothing is left of the deleted ones.
    assert {item.key.split("/")[1] for item in lake.checkpoints.list(RUN)} == {
        "step-000030",
        "step-000040",
        "latest.json",
        "writer.json",
    }


def test_the_best_checkpoint_stays(lake: Lake, start: Start) -> None:
    uploads = start(keep=1)
    for step in (10, 20, 30, 40):
        write(uploads, step, best=2.5 if step == 10 else None)
        uploads.flush(timeout=PATIENCE_SECONDS)
    assert steps(lake) == [10, 40]
    assert lake.checkpoints.get_json(f"{RUN}/best.json")["metric"] == 2.5
    ref = CheckpointRef(run=RUN, step=10)
    for wanted in ("best", f"{RUN}/best", lake.checkpoints.uri(f"{RUN}/best")):
        assert CheckpointRef.resolve(lake, wanted) == ref
    write(uploads, 50, best=2.0)
    uploads.close(timeout=PATIENCE_SECONDS)
    assert steps(lake) == [50]
    assert best_step(lake.checkpoints, RUN) == 50


def test_a_run_without_a_best_checkpoint_has_no_such_name(lake: Lake, start: Start) -> None:
    uploads = start()
    write(uploads, 10)
    uploads.close(timeout=PATIENCE_SECONDS)
    for wanted in ("best", f"{RUN}/best"):
        with pytest.raises(CheckpointNotFoundError, match=RUN):
            CheckpointRef.resolve(lake, wanted)


def test_in_an_outage_newer_checkpoints_replace_older_ones(
    lake: Lake,
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    start: Start,
    lines: list[str],
    tmp_path: Path,
) -> None:
    uploads = start(connect(proxy.endpoint))
    proxy.always = AWAY
    most = 0
    for step in range(10, 200, 10):
        write(uploads, step, best=1 / step if step in (20, 50) else None)
        most = max(most, len(spooled(tmp_path / "spool")))
    assert most <= 3
    assert uploads.durable is None
    with pytest.raises(CheckpointUploadError, match=r"steps (.*, )?190\. The newest there: none\..*refused"):
        uploads.close(timeout=1)
    assert uploads.problem is not None
    assert "AccessDenied" in uploads.problem
    assert len([line for line in lines if "not in the lake" in line]) == 1
    proxy.always = None
    start(recovered=190)
    assert steps(lake) == [50, 190]
    assert best_step(lake.checkpoints, RUN) == 50
    assert spooled(tmp_path / "spool") == []


def test_an_older_checkpoint_does_not_move_the_pointers_back(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    for step in (50, 60, 20):
        publish(lake, CheckpointRef(run=RUN, step=step), folder=tmp_path, final=False, best=1 / step)
    assert steps(lake) == [20, 50, 60]
    assert pointer(lake) == 60
    assert best_step(lake.checkpoints, RUN) == 60


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("corrupt_request", after=2, on=r"^PUT .*model")] * 4,
        [Fault("cut_request", after=2, on=r"^PUT .*(model|manifest)")] * 4,
        [Fault("lose_answer", on=r"^(PUT|POST|DELETE) ")] * 6,
        [Fault("status", status=500)] * 4 + [AWAY] * 3,
        [Fault("truncate", after=100, on=r"^GET")] * 4,
        [Fault("corrupt", after=3, on=r"^GET .*(manifest|writer)")] * 3,
    ],
    ids=["corrupt", "cut", "answers lost", "errors", "truncated answers", "corrupt answers"],
)
def test_uploads_survive_faults(
    lake: Lake,
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    start: Start,
    tmp_path: Path,
    faults: list[Fault],
) -> None:
    uploads = start(connect(proxy.endpoint))
    proxy.faults = [*faults]
    content = os.urandom(9 * 1024**2)
    write(uploads, 10, content=content, best=1.0)
    assert uploads.close(timeout=PATIENCE_SECONDS) == 10
    (ref,) = list_checkpoints(lake.checkpoints, RUN)
    (tmp_path / "copy").mkdir()
    download(lake, ref, folder=tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == content
    assert pointer(lake) == best_step(lake.checkpoints, RUN) == 10
    assert proxy.faults == []


def test_training_continues_during_an_upload(
    lake: Lake, proxy: FaultProxy, connect: Callable[..., Lake], start: Start, tmp_path: Path
) -> None:
    held, free = threading.Event(), threading.Event()

    def hold(head: bytes, _: bytes) -> bytes:
        if b"model" in head.split(b"\r\n", 1)[0]:
            held.set()
            free.wait(PATIENCE_SECONDS)
        return head

    proxy.rewrite = hold
    uploads = start(connect(proxy.endpoint))
    write(uploads, 10)
    assert held.wait(PATIENCE_SECONDS)
    for step in (20, 30, 40):
        write(uploads, step)
    assert uploads.durable is None
    assert spooled(tmp_path / "spool") == ["step-000010", "step-000040"]
    free.set()
    assert uploads.close(timeout=PATIENCE_SECONDS) == 40
    assert steps(lake) == [10, 40]


def test_the_later_of_two_writers_continues(lake: Lake, start: Start, tmp_path: Path) -> None:
    first = start(spool=tmp_path / "here")
    write(first, 10)
    first.flush(timeout=PATIENCE_SECONDS)
    second = start(spool=tmp_path / "elsewhere", recovered=10)
    write(first, 20)
    with pytest.raises(RunBusyError, match=f"pid {os.getpid()}"):
        first.close(timeout=PATIENCE_SECONDS)
    with pytest.raises(RunBusyError):
        write(first, 30)
    write(second, 20)
    assert second.close(timeout=PATIENCE_SECONDS) == 20
    # The first process keeps its own checkpoints.
    assert spooled(tmp_path / "here") == ["step-000020", "step-000030"]


def test_a_spool_is_locked(start: Start) -> None:
    start()
    with pytest.raises(RunBusyError, match=f"pid {os.getpid()}"):
        start()


def test_a_deleted_claim_is_renewed(lake: Lake) -> None:
    claim = RunClaim(lake, run=RUN)
    claim.check()
    lake.checkpoints.delete([f"{RUN}/writer.json"])
    claim.check()
    assert lake.checkpoints.exists(f"{RUN}/writer.json")


def test_recovery_uploads_the_newest_and_drops_outdated_checkpoints(
    lake: Lake, start: Start, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool", run=RUN)
    for step in (10, 30, 40):
        with spool.writing(step, Marks(), bytes_needed=1) as folder:
            (folder / "model").write_bytes(b"%d" % step)
    spool.release()
    folder = tmp_path / "newer"
    folder.mkdir()
    (folder / "model").write_bytes(b"newer")
    publish(lake, CheckpointRef(run=RUN, step=20), folder=folder, final=False)
    start(recovered=40)
    assert steps(lake) == [20, 40]
    assert spooled(tmp_path / "spool") == []


def test_a_retry_sends_only_the_missing_files(
    proxy: FaultProxy, connect: Callable[..., Lake], start: Start
) -> None:
    uploads = start(connect(proxy.endpoint))
    proxy.faults = [Fault("status", status=403, code="AccessDenied", on=r"^PUT .*state")]
    write(uploads, 10)
    uploads.close(timeout=PATIENCE_SECONDS)
    sent = [request for request in proxy.requests if re.search(r"^PUT .*step-000010/(model|state)", request)]
    assert len([request for request in sent if "model" in request]) == 1
    assert len([request for request in sent if "state" in request]) == 2


def test_a_complete_checkpoint_is_never_replaced(lake: Lake, start: Start, tmp_path: Path) -> None:
    ref = CheckpointRef(run=RUN, step=10)
    for content, recovered in ((b"first", None), (b"other", 10)):
        uploads = start(recovered=recovered)
        write(uploads, 10, content=content)
        uploads.close(timeout=PATIENCE_SECONDS)
    (tmp_path / "copy").mkdir()
    download(lake, ref, folder=tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == b"first"


def test_a_failed_deletion_costs_no_checkpoint(
    lake: Lake, proxy: FaultProxy, connect: Callable[..., Lake], start: Start
) -> None:
    uploads = start(connect(proxy.endpoint), keep=1)
    for step in (10, 20, 30):
        if step == 20:
            proxy.faults = [Fault("status", status=403, code="AccessDenied", on="^(POST|DELETE)")]
        write(uploads, step)
        uploads.flush(timeout=PATIENCE_SECONDS)
        if step == 20:
            assert uploads.problem is not None
            assert "not deleted" in uploads.problem
            assert steps(lake) == [10, 20]
    assert steps(lake) == [30]


def test_an_interpreter_that_exits_without_closing_loses_no_checkpoint(lake: Lake, tmp_path: Path) -> None:
    program = """
import pathlib, sys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
uploads = CheckpointUploads(Lake.open(get_settings()), run="nano-1", spool=pathlib.Path(sys.argv[1]), keep=2, report=print)
uploads.recover()
with uploads.writing(10, bytes_needed=1) as folder:
    (folder / "model").write_bytes(b"weights")
raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "spool")], timeout=PATIENCE_SECONDS)
    assert done.returncode == 3
    assert spooled(tmp_path / "spool") == ["step-000010"] or steps(lake) == [10]
