"""kill -9 at any moment: every listed checkpoint is complete, and the newest durable one is still there."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import random
import re
import tempfile
from time import sleep

import pytest

from pixel_pipeline.lake.embedded import EmbeddedServer
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.checkpoints.store import (
    CheckpointRef,
    best_step,
    download,
    list_checkpoints,
)
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
from pixel_pipeline_tests.children import Child, preload, send
from pixel_pipeline_tests.faults import Fault, FaultProxy
from pixel_pipeline_tests.training.checkpoints.conftest import RUN

preload(__name__)


def train_nothing(spool: Path, last: int, stop: str) -> None:
    """Write and submit checkpoints, quickly; every fifth is the best so far.

    Args:
        last: Step to end with.
        stop: Place in each step where to wait for ever.
    """

    def reached(place: str) -> None:
        if place == stop:
            send("stopped")
            sleep(1000)

    uploads = CheckpointUploads(
        Lake.open(get_settings()), run=RUN, spool=spool, keep=2, report=send, first_pause=0.05
    )
    send("opened")
    begin = uploads.recover(timeout=60) or 0
    send(f"recovered {begin}")
    for step in range(begin + 1, last + 1):
        best = 1 / step if step % 5 == 0 else None
        with uploads.writing(step, bytes_needed=1, final=step == last, best=best) as folder:
            (folder / "model").write_bytes(os.urandom(9_000_000))
            reached("writing")
            (folder / "state.json").write_bytes(b"%d" % step)
        reached("written")
        sleep(0.02)
    send(f"closed {uploads.close(timeout=60)}")


@contextmanager
def trainer(spool: Path, *, last: int = 10**6, stop: str = "") -> Iterator[Child]:
    child = Child(train_nothing, spool, last, stop, environment=os.environ)
    try:
        yield child
    finally:
        child.process.kill()
        child.process.join()


def lines_until(child: Child, beginning: str) -> list[str]:
    """Its output, up to a line with this beginning."""
    received = []
    for line in child.lines():
        received.append(str(line))
        if received[-1].startswith(beginning):
            return received
    raise AssertionError(f"the process ended without {beginning!r}: {received}")


def kill(child: Child, received: list[str]) -> int:
    """Kill the process; returns the newest step that it reported as durable."""
    child.process.kill()
    received = [*received, *map(str, child.lines())]
    return max(
        [int(step) for line in received for step in re.findall(r"^checkpoint .*step-(\d+)$", line)], default=0
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
    with trainer(spool, last=last) as child:
        # Steps that were complete on the local disk are not trained again.
        assert lines_until(child, "recovered")[-1] == f"recovered {max([newest, *waiting])}"
        lines_until(child, f"closed {last}")
        child.process.join()
        assert child.process.exitcode == 0
    assert check(lake, durable=last) == last
    assert [path.name for path in spool.iterdir()] == ["lock"]
    listed = {ref.step for ref in list_checkpoints(lake.checkpoints, RUN)}
    assert len(listed) <= 3
    folders = {
        int(step) for item in lake.checkpoints.list(RUN) for step in re.findall(r"/step-(\d+)/", item.key)
    }
    assert folders == listed


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.deep)])
@pytest.mark.parametrize("faulty", [False, True], ids=["healthy lake", "failing lake"])
def test_killed_at_random_moments(
    lake: Lake,
    server: EmbeddedServer,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    faulty: bool,
    kills: int,
) -> None:
    if faulty:
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", proxy.endpoint)
        monkeypatch.setenv("OVH_S3_ACCESS_KEY", server.access_key)
        monkeypatch.setenv("OVH_S3_SECRET_KEY", server.secret_key.get_secret_value())
    moments = random.Random(7)
    durable = 0
    for number in range(kills):
        proxy.faults = [
            Fault(
                moments.choice(["reset", "cut_request", "corrupt_request", "lose_answer", "status", "none"]),
                status=moments.choice([403, 500]),
                after=moments.randrange(200),
                on=moments.choice(["^PUT", "^POST", "^GET", "manifest", "model", "DELETE"]),
            )
            for _ in range(12 if faulty and number < kills - 1 else 0)
        ]
        with trainer(tmp_path / "spool") as child:
            # The process ends by itself if the lake fails during recovery.
            received = lines_until(child, "opened")
            sleep(moments.uniform(0, 2))
            if number == kills - 1:
                received += lines_until(child, "checkpoint ")
            durable = max(durable, kill(child, received))
        durable = check(lake, durable=durable)
    assert durable
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
    with trainer(tmp_path / "spool", last=4) as child:
        lines_until(child, "closed 4")
    durable = check(lake, durable=4)
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", proxy.endpoint)
    monkeypatch.setenv("OVH_S3_ACCESS_KEY", server.access_key)
    monkeypatch.setenv("OVH_S3_SECRET_KEY", server.secret_key.get_secret_value())
    if place in PLACES:
        passes = [Fault("none", on=PLACES[place])] if place == "while it prunes" else []
        proxy.faults = [*passes, Fault("hold", on=PLACES[place])]
        with trainer(tmp_path / "spool", last=6) as child:
            received = lines_until(child, "recovered")
            assert proxy.silent.wait(60)
            durable = max(durable, kill(child, received))
    else:
        with trainer(tmp_path / "spool", stop=place) as child:
            durable = max(durable, kill(child, lines_until(child, "stopped")))
    newest = check(lake, durable=durable)
    spooled = {"while it uploads": 6, "before the manifest": 6}.get(place)
    assert spooled is None or (tmp_path / "spool" / f"step-{spooled:06d}").is_dir()
    finish(lake, tmp_path / "spool", newest=newest)
