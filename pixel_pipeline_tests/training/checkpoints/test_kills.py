"""kill -9 at any moment: every listed checkpoint is complete, and the newest durable one is still there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import random
import re
import subprocess
import sys
import tempfile
from time import sleep

import pytest

from pixel_pipeline.lake.embedded import EmbeddedServer
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.store import (
    CheckpointRef,
    best_step,
    download,
    list_checkpoints,
)
from pixel_pipeline_tests.faults import Fault, FaultProxy
from pixel_pipeline_tests.training.checkpoints.conftest import RUN

# Arguments: spool, last step, place to stop at. Trains nothing; every fifth checkpoint is the best so far.
TRAINER = """
from pathlib import Path
import os, sys, time
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads

spool, last, stop = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def say(line):
    print(line, flush=True)

def reached(place):
    if place == stop:
        say("stopped")
        time.sleep(1000)

uploads = CheckpointUploads(
    Lake.open(get_settings()), run="nano-1", spool=spool, keep=2, report=say, first_pause=0.05
)
say("opened")
begin = uploads.recover(timeout=60) or 0
say(f"recovered {begin}")
for step in range(begin + 1, last + 1):
    best = 1 / step if step % 5 == 0 else None
    with uploads.writing(step, bytes_needed=1, final=step == last, best=best) as folder:
        (folder / "model").write_bytes(os.urandom(9_000_000))
        reached("writing")
        (folder / "state.json").write_bytes(b"%d" % step)
    reached("written")
    time.sleep(0.02)
say(f"closed {uploads.close(timeout=60)}")
"""


@contextmanager
def trainer(spool: Path, *, last: int = 10**6, stop: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", TRAINER, str(spool), str(last), stop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], beginning: str) -> list[str]:
    """Its output, up to a line with this beginning."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"the process ended without {beginning!r}: {lines}")


def kill(process: subprocess.Popen[str], lines: list[str]) -> int:
    """Kill the process; returns the newest step that it reported as durable."""
    process.kill()
    assert process.stdout is not None
    lines = [*lines, *process.stdout]
    return max(
        [int(step) for line in lines for step in re.findall(r"^checkpoint .*step-(\d+)$", line)], default=0
    )


def check(lake: Lake, *, durable: int) -> int:
    """Check the guarantees that hold at any time; returns the newest step in the lake."""
    refs = list_checkpoints(lake.checkpoints, RUN)
    newest = max((ref.step for ref in refs), default=0)
    assert newest >= durable
    for ref in refs:
        with tempfile.TemporaryDirectory() as folder:
            download(lake, ref, folder=Path(folder))
            assert (Path(folder) / "state.json").read_text() == str(ref.step)
    best = best_step(lake.checkpoints, RUN)
    assert best is None or CheckpointRef(run=RUN, step=best) in refs
    if lake.checkpoints.exists(f"{RUN}/latest.json"):
        assert lake.checkpoints.get_json(f"{RUN}/latest.json")["step"] in [ref.step for ref in refs]
    return newest


def finish(lake: Lake, spool: Path, *, newest: int) -> None:
    """Continue the run to its end; then only the checkpoints to keep are left."""
    last = newest + 6
    waiting = [int(step) for path in spool.iterdir() for step in re.findall(r"step-(\d+)$", path.name)]
    with trainer(spool, last=last) as process:
        # Steps that were complete on the local disk are not trained again.
        lines = lines_until(process, "recovered")
        assert lines[-1] == f"recovered {max([newest, *waiting])}\n"
        lines_until(process, f"closed {last}")
        assert process.wait() == 0
    assert check(lake, durable=last) == last
    assert [path.name for path in spool.iterdir()] == ["lock"]
    listed = {ref.step for ref in list_checkpoints(lake.checkpoints, RUN)}
    assert len(listed) <= 3
    folders = {
        int(step) for item in lake.checkpoints.list(RUN) for step in re.findall(r"/step-(\d+)/", item.key)
    }
    assert folders == listed


@pytest.mark.parametrize("faulty", [False, True], ids=["healthy lake", "failing lake"])
def test_killed_at_random_moments(
    lake: Lake,
    server: EmbeddedServer,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    faulty: bool,
) -> None:
    if faulty:
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", proxy.endpoint)
        monkeypatch.setenv("OVH_S3_ACCESS_KEY", server.access_key)
        monkeypatch.setenv("OVH_S3_SECRET_KEY", server.secret_key.get_secret_value())
    moments = random.Random(7)
    durable = 0
    for _ in range(10):
        proxy.faults = [
            Fault(
                moments.choice(["reset", "cut_request", "corrupt_request", "lose_answer", "status", "none"]),
                status=moments.choice([403, 500]),
                after=moments.randrange(200),
                on=moments.choice(["^PUT", "^POST", "^GET", "manifest", "model", "DELETE"]),
            )
            for _ in range(12 if faulty else 0)
        ]
        with trainer(tmp_path / "spool") as process:
            # The process ends by itself if the lake fails during recovery.
            lines = lines_until(process, "opened")
            sleep(moments.uniform(0, 2))
            durable = max(durable, kill(process, lines))
        durable = check(lake, durable=durable)
    assert durable
    proxy.faults = []
    finish(lake, tmp_path / "spool", newest=durable)


PLACES = {
    "while it uploads": r"^PUT .*step-000006/model",
    "before the manifest": r"^PUT .*step-000006/manifest",
    "between manifest and best": r"^PUT .*best",
    "between manifest and pointer": r"^PUT .*latest",
    "before it prunes": r"^(POST|DELETE) (?!.*upload)",
    "while it prunes": r"^(POST|DELETE) (?!.*upload)",
}


@pytest.mark.parametrize("place", [*PLACES, "writing", "written"])
def test_killed_at_a_known_moment(
    lake: Lake,
    server: EmbeddedServer,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    place: str,
) -> None:
    with trainer(tmp_path / "spool", last=4) as process:
        lines_until(process, "closed 4")
    durable = check(lake, durable=4)
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", proxy.endpoint)
    monkeypatch.setenv("OVH_S3_ACCESS_KEY", server.access_key)
    monkeypatch.setenv("OVH_S3_SECRET_KEY", server.secret_key.get_secret_value())
    if place in PLACES:
        passes = [Fault("none", on=PLACES[place])] if place == "while it prunes" else []
        proxy.faults = [*passes, Fault("hold", on=PLACES[place])]
        with trainer(tmp_path / "spool", last=6) as process:
            lines = lines_until(process, "recovered")
            assert proxy.silent.wait(60)
            durable = max(durable, kill(process, lines))
    else:
        with trainer(tmp_path / "spool", stop=place) as process:
            durable = max(durable, kill(process, lines_until(process, "stopped")))
    newest = check(lake, durable=durable)
    spooled = {"while it uploads": 6, "before the manifest": 6}.get(place)
    assert spooled is None or (tmp_path / "spool" / f"step-{spooled:06d}").is_dir()
    finish(lake, tmp_path / "spool", newest=newest)
