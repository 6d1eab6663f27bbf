"""Uploads in the background: order, supersession, pointers, outages, a second writer, the end."""

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
from pixel_pipeline_tests.training.uploads.conftest import RUN, write

Start = Callable[..., CheckpointUploads]
PATIENCE_SECONDS = 120
# What no attempt gets through.
AWAY = Fault("status", status=403, code="AccessDenied")


def steps(lake: Lake) -> list[int]:
    return [ref.step for ref in list_checkpoints(lake.checkpoints, RUN)]


def spooled(tmp_path: Path) -> list[str]:
    return sorted(
        path.name for path in (tmp_path / "spool").iterdir() if re.fullmatch(r"step-\d+", path.name)
    )


def pointer(lake: Lake) -> int:
    step: int = lake.checkpoints.get_json(f"{RUN}/latest.json")["step"]
    return step


def test_checkpoints_arrive_and_old_ones_go(
    lake: Lake, start: Start, lines: list[str], tmp_path: Path
) -> None:
    uploads = start()
    assert uploads.recover() is None
    for step in (10, 20, 30):
        write(uploads, step)
        uploads.submit(step)
        uploads.recover()
    write(uploads, 40)
    uploads.submit(40, final=True)
    assert uploads.close(timeout=PATIENCE_SECONDS) == uploads.durable == 40
    assert uploads.problem is None
    assert steps(lake) == [30, 40]
    assert pointer(lake) == 40
    assert [CheckpointManifest.load(lake, ref).final for ref in list_checkpoints(lake.checkpoints, RUN)] == [
        False,
        True,
    ]
    assert spooled(tmp_path) == []
    assert f"checkpoint {CheckpointRef(run=RUN, step=40).uri(lake)}" in lines
    # Nothing else is left of those that went.
    assert {item.key.split("/")[1] for item in lake.checkpoints.list(RUN)} == {
        "step-000030",
        "step-000040",
        "latest.json",
        "writer.json",
    }


def test_best_and_named_checkpoints_stay(lake: Lake, start: Start) -> None:
    uploads = start(keep=1, keep_steps={20})
    for step in (10, 20, 30, 40):
        write(uploads, step)
        uploads.submit(step, best=step == 10, metric=2.5 if step == 10 else None)
        uploads.recover()
    assert steps(lake) == [10, 20, 40]
    assert lake.checkpoints.get_json(f"{RUN}/best.json")["metric"] == 2.5
    ref = CheckpointRef(run=RUN, step=10)
    for wanted in ("best", f"{RUN}/best", lake.checkpoints.uri(f"{RUN}/best")):
        assert CheckpointRef.resolve(lake, wanted) == ref
    write(uploads, 50)
    uploads.submit(50, best=True, metric=2.0)
    uploads.close(timeout=PATIENCE_SECONDS)
    assert steps(lake) == [20, 50]
    assert best_step(lake.checkpoints, RUN) == 50


def test_a_run_without_a_best_says_so(lake: Lake, start: Start) -> None:
    uploads = start()
    write(uploads, 10)
    uploads.submit(10)
    uploads.close(timeout=PATIENCE_SECONDS)
    for wanted in ("best", f"{RUN}/best"):
        with pytest.raises(CheckpointNotFoundError, match=RUN):
            CheckpointRef.resolve(lake, wanted)


def test_a_step_that_is_regular_and_best_and_final_is_uploaded_once(
    lake: Lake, proxy: FaultProxy, connect: Callable[..., Lake], start: Start
) -> None:
    uploads = start(connect(proxy.endpoint))
    write(uploads, 10)
    uploads.submit(10)
    uploads.submit(10, best=True, metric=1.0)
    uploads.recover()
    # Its folder has gone.
    uploads.submit(10, final=True)
    uploads.close(timeout=PATIENCE_SECONDS)
    sent = [request for request in proxy.requests if re.search("^PUT .*model.safetensors", request)]
    assert len(sent) == 1
    assert best_step(lake.checkpoints, RUN) == 10
    assert CheckpointManifest.load(lake, CheckpointRef(run=RUN, step=10)).final
    assert lake.checkpoints.get_json(f"{RUN}/latest.json")["final"] is True


def test_in_an_outage_newer_checkpoints_replace_older_ones(
    lake: Lake,
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    start: Start,
    lines: list[str],
    tmp_path: Path,
) -> None:
    uploads = start(connect(proxy.endpoint))
    uploads.recover()
    proxy.always = AWAY
    most = 0
    for step in range(10, 200, 10):
        write(uploads, step)
        best = step in (20, 50)
        uploads.submit(step, best=best, metric=1 / step if best else None)
        most = max(most, len(spooled(tmp_path)))
    assert most <= 3
    assert uploads.durable is None
    with pytest.raises(CheckpointUploadError, match=r"steps (.*, )?190\. The newest there: none\..*refused"):
        uploads.close(timeout=1)
    assert uploads.problem is not None
    assert "AccessDenied" in uploads.problem
    assert len([line for line in lines if "not in the lake" in line]) == 1
    proxy.always = None
    again = start()
    assert again.recover() == 190
    assert steps(lake) == [50, 190]
    assert best_step(lake.checkpoints, RUN) == 50
    assert spooled(tmp_path) == []


def test_an_older_checkpoint_that_comes_late_does_not_move_the_pointers_back(
    lake: Lake, start: Start, tmp_path: Path
) -> None:
    for step in (50, 60):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / "model").write_bytes(b"%d" % step)
        publish(lake, CheckpointRef(run=RUN, step=step), folder=folder, final=False, best=1 / step)
    uploads = start(keep=9)
    write(uploads, 20)
    uploads.submit(20, best=True, metric=9.0)
    assert uploads.close(timeout=PATIENCE_SECONDS) == 20
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
def test_faults_are_waited_out(
    lake: Lake,
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    start: Start,
    tmp_path: Path,
    faults: list[Fault],
) -> None:
    uploads = start(connect(proxy.endpoint))
    uploads.recover()
    proxy.faults = [*faults]
    content = os.urandom(9 * 1024**2)
    write(uploads, 10, content=content)
    uploads.submit(10, best=True, metric=1.0)
    assert uploads.close(timeout=PATIENCE_SECONDS) == 10
    (ref,) = list_checkpoints(lake.checkpoints, RUN)
    (tmp_path / "copy").mkdir()
    download(lake, ref, folder=tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == content
    assert pointer(lake) == best_step(lake.checkpoints, RUN) == 10
    assert proxy.faults == []


def test_training_goes_on_while_one_is_uploaded(
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
    uploads.submit(10)
    assert held.wait(PATIENCE_SECONDS)
    for step in (20, 30, 40):
        write(uploads, step)
        uploads.submit(step)
    assert uploads.durable is None
    assert spooled(tmp_path) == ["step-000010", "step-000040"]
    free.set()
    assert uploads.close(timeout=PATIENCE_SECONDS) == 40
    assert steps(lake) == [10, 40]


def test_the_later_of_two_writers_goes_on(lake: Lake, start: Start, tmp_path: Path) -> None:
    first = start(spool=tmp_path / "here")
    first.recover()
    write(first, 10)
    first.submit(10)
    first.recover()
    second = start(spool=tmp_path / "elsewhere")
    assert second.recover() == 10
    write(first, 20)
    first.submit(20)
    with pytest.raises(RunBusyError, match=f"pid {os.getpid()}"):
        first.close(timeout=PATIENCE_SECONDS)
    with pytest.raises(RunBusyError):
        first.submit(30)
    write(second, 20)
    second.submit(20)
    assert second.close(timeout=PATIENCE_SECONDS) == 20
    # What the first wrote is its own.
    assert (tmp_path / "here" / "step-000020").is_dir()


def test_one_spool_has_one_process(start: Start) -> None:
    start()
    with pytest.raises(RunBusyError, match=f"pid {os.getpid()}"):
        start()


def test_a_claim_that_was_cleared_away_is_made_again(lake: Lake) -> None:
    claim = RunClaim(lake, run=RUN)
    claim.check()
    lake.checkpoints.delete([f"{RUN}/writer.json"])
    claim.check()
    assert lake.checkpoints.exists(f"{RUN}/writer.json")


def test_recovery_drops_what_is_damaged_or_outdated(
    lake: Lake, start: Start, lines: list[str], tmp_path: Path
) -> None:
    uploads = start()
    write(uploads, 10)
    write(uploads, 30)
    write(uploads, 40)
    # Written and never submitted, as by a process that dies.
    uploads.close(timeout=PATIENCE_SECONDS)
    folder = tmp_path / "newer"
    folder.mkdir()
    (folder / "model").write_bytes(b"newer")
    publish(lake, CheckpointRef(run=RUN, step=20), folder=folder, final=False)
    os.truncate(tmp_path / "spool" / "step-000040" / "model.safetensors", 3)
    again = start()
    assert again.recover() == 30
    assert steps(lake) == [20, 30]
    assert spooled(tmp_path) == []
    assert any("step-000040 is damaged" in line for line in lines)


def test_a_checkpoint_that_is_whole_is_never_replaced(lake: Lake, start: Start, tmp_path: Path) -> None:
    ref = CheckpointRef(run=RUN, step=10)
    for content in (b"first", b"other"):
        uploads = start()
        write(uploads, 10, content=content)
        uploads.submit(10)
        uploads.close(timeout=PATIENCE_SECONDS)
    (tmp_path / "copy").mkdir()
    download(lake, ref, folder=tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == b"first"


@pytest.mark.parametrize("damage", ["file gone", "manifest cut off", "manifest of another"])
def test_a_checkpoint_that_is_not_whole_is_written_again(
    lake: Lake, start: Start, tmp_path: Path, damage: str
) -> None:
    ref = CheckpointRef(run=RUN, step=10)
    uploads = start()
    write(uploads, 10)
    uploads.submit(10)
    uploads.recover()
    match damage:
        case "file gone":
            lake.checkpoints.delete([f"{ref.prefix}/state.json"])
        case "manifest cut off":
            lake.checkpoints.put(f"{ref.prefix}/manifest.json", b'{"run": ')
        case "manifest of another":
            lake.checkpoints.put(f"{ref.prefix}/manifest.json", b'{"run": "nano-2"}')
    write(uploads, 10, content=b"third")
    uploads.submit(10)
    uploads.close(timeout=PATIENCE_SECONDS)
    (tmp_path / "copy").mkdir()
    download(lake, ref, folder=tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == b"third"


def test_damage_on_the_local_disk_is_not_uploaded(lake: Lake, start: Start, tmp_path: Path) -> None:
    uploads = start()
    write(uploads, 10)
    uploads.submit(10)
    uploads.recover()
    write(uploads, 20)
    os.truncate(tmp_path / "spool" / "step-000020" / "model.safetensors", 3)
    uploads.submit(20)
    with pytest.raises(CheckpointUploadError, match=r"steps 20\. The newest there: step 10.*damaged"):
        uploads.close(timeout=PATIENCE_SECONDS)
    assert steps(lake) == [10]
    assert pointer(lake) == 10


def test_a_step_that_is_nowhere_is_told(lake: Lake, start: Start) -> None:
    uploads = start()
    uploads.submit(99)
    with pytest.raises(CheckpointUploadError, match="step 99 is neither"):
        uploads.close(timeout=PATIENCE_SECONDS)
    assert steps(lake) == []


def test_what_cannot_be_pruned_costs_no_checkpoint(
    lake: Lake, proxy: FaultProxy, connect: Callable[..., Lake], start: Start
) -> None:
    uploads = start(connect(proxy.endpoint), keep=1)
    for step in (10, 20, 30):
        if step == 20:
            proxy.faults = [Fault("status", status=403, code="AccessDenied", on="^(POST|DELETE)")]
        write(uploads, step)
        uploads.submit(step)
        uploads.recover()
        if step == 20:
            assert uploads.problem is not None
            assert "not deleted" in uploads.problem
            assert steps(lake) == [10, 20]
    assert steps(lake) == [30]


def test_an_interpreter_that_did_not_close_ends_and_keeps_the_spool(lake: Lake, tmp_path: Path) -> None:
    program = """
import pathlib, sys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
uploads = CheckpointUploads(Lake.open(get_settings()), run="nano-1", spool=pathlib.Path(sys.argv[1]), keep=2, report=print)
with uploads.writing(10, bytes_needed=1) as folder:
    (folder / "model").write_bytes(b"weights")
raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "spool")], timeout=PATIENCE_SECONDS)
    assert done.returncode == 3
    assert spooled(tmp_path) == ["step-000010"]
