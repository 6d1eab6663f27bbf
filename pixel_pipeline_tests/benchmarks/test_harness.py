"""The arithmetic and output of the benchmarks, and one small run of each kind."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from benchmarks import data, harness, lake_ours, lake_peers, listing_server, object_server
from benchmarks.harness import BenchmarkError, Figure, Options, Run, Worker
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table

KEYS = {"figure", "value", "unit", "peer", "peer_value", "ratio", "goal", "spread"}


def run(*, wall: float = 1.0, cpu: float = 1.0, count: int = 1, **versions: str) -> Run:
    return Run(wall=wall, cpu=cpu, peak_rss=100, count=count, versions=versions)


def test_small_times_and_large_rates_are_better() -> None:
    pairs = [(run(wall=1), run(wall=4)), (run(wall=2), run(wall=4)), (run(wall=1), run(wall=3))]
    time = harness.against_peer("f", pairs, unit="s", measure=lambda run: run.wall, library="x", goal=3)
    assert (time.value, time.peer_value, time.ratio, time.spread) == (1, 4, 3, (2, 4))
    assert time.reached
    rate = harness.against_peer(
        "f", pairs, unit="1/s", measure=lambda run: 12 / run.wall, library="x", goal=4
    )
    assert (rate.value, rate.peer_value, rate.ratio, rate.spread) == (12, 3, 3, (2, 4))
    assert not rate.reached


def test_the_name_of_a_peer_contains_its_versions() -> None:
    pair = (run(), run(s3fs="2026.9.0", orjson="3.1"))
    figure = harness.against_peer(
        "f", [pair], unit="s", measure=lambda run: 1, library="s3fs + orjson + json"
    )
    assert figure.peer == "s3fs 2026.9.0 + orjson 3.1 + json"
    assert figure.reached, "a figure without a goal counts as reached"


def test_a_figure_must_stay_below_its_limit() -> None:
    runs = [run(wall=10), run(wall=25), run(wall=12.5)]
    figure = harness.against_limit("f", runs, unit="s", measure=lambda run: run.wall, limit=20)
    assert (figure.value, figure.peer_value, figure.ratio, figure.spread) == (12.5, 20, 1.6, (0.8, 2))
    assert figure.reached


def test_two_sides_with_different_counts_are_an_error() -> None:
    with pytest.raises(BenchmarkError, match=r"\[1, 2\]"):
        harness.alternate(lambda: run(count=1), lambda: run(count=2), repeats=1)


def test_the_sides_alternate() -> None:
    calls = []

    def side(name: str) -> Any:
        return lambda: calls.append(name) or run()

    assert len(harness.alternate(side("ours"), side("peer"), repeats=2)) == 2
    assert calls == ["ours", "peer", "ours", "peer"]


@pytest.mark.parametrize("goal", [None, 2.0, 4.0])
def test_a_report_is_json_lines_or_a_table(goal: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure("listing", 0.123456, "s", "boto3 1.4", 0.5, 3.0, goal, (2.5, 3.25))
    harness.report([figure, figure], as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [lines[0]] * 2
    assert lines[0].keys() == KEYS
    assert lines[0]["value"] == 0.1235
    assert lines[0]["goal"] == goal
    assert lines[0]["spread"] == [2.5, 3.25]
    harness.report([figure], as_json=False)
    assert ("BELOW GOAL" in capsys.readouterr().out) is (goal == 4.0)


def test_the_cpu_time_of_a_running_child_counts() -> None:
    before = harness._running_below(os.getpid())
    code = "sum(range(10_000_000)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert harness._running_below(os.getpid()) > before
        assert harness._running_below(child.pid) == 0, "a process is not its own descendant"
        child.stdin.write(b"\n")


def test_the_error_of_a_failed_worker_quotes_its_last_line() -> None:
    worker = Worker(Path(sys.executable), "benchmarks.lake_peers", "no_such_job", {}, {})
    with pytest.raises(BenchmarkError, match="KeyError: 'no_such_job'"):
        worker.run()


def test_figures_measured_before_a_failure_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def prepare(options: Options) -> Iterator[None]:
        yield None

    def figures(_: None) -> Iterator[Figure]:
        yield Figure("first", 1.0, "s", "limit", 2.0, 2.0, 1.0, (2.0, 2.0))
        raise BenchmarkError("the second failed")

    monkeypatch.setattr("sys.argv", ["area", "--json", "--peers-python", sys.executable])
    with pytest.raises(SystemExit) as ended:
        harness.run_area("An area.", prepare, {"one": figures})
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert json.loads(output.out)["figure"] == "first"
    assert "the second failed" in output.err


@pytest.mark.parametrize("maker", [data.json_lines, data.json_array])
def test_a_generated_file_can_be_read_in_any_ranges(maker: Any) -> None:
    file = maker(100_000)
    whole = b"".join(file.chunks())
    assert len(whole) == file.size
    lines = (
        [json.loads(line) for line in whole.splitlines()] if maker is data.json_lines else json.loads(whole)
    )
    assert len(lines) == file.count > 10
    for start, end in ((0, 1), (1, 50_000), (49_999, file.size), (file.size - 3, file.size), (5, 5)):
        assert b"".join(file.read(start, end)) == whole[start:end]


def test_both_sides_list_the_same_objects(worker_lake: Lake) -> None:
    for number in range(5):
        worker_lake.data.put(f"gdrive/raw/folder/{number}.json", b"[]")
    assert lake_ours.list_inventory()() == 5
    assert lake_peers.list_boto3(worker_lake.data.name, "gdrive/raw/")() == 5


def test_a_generated_bucket_is_refreshed_and_the_sensor_follows(worker_lake: Lake) -> None:
    with (
        listing_server.serving(listing_server.synthetic(200)) as before,
        listing_server.serving(listing_server.synthetic(200, changed=2)) as after,
    ):
        counts = [lake_ours.refresh(endpoint)() for endpoint in (before, after, before)]
    assert counts == [200, 2, 2]
    assert lake_ours.tick(1)() == 1, "both changed objects belong to one family"
    assert lake_ours.tick(3)() > 1


def test_both_sides_read_the_same_records(worker_lake: Lake) -> None:
    lines, array = data.json_lines(100_000), data.json_array(100_000)
    worker_lake.data.put("bench/r.jsonl", b"".join(lines.chunks()))
    worker_lake.data.put("bench/r.json", b"".join(array.chunks()))
    assert lake_ours.lines(worker_lake.data.uri("bench/r.jsonl"))() == lines.count
    assert lake_peers.lines_boto3(worker_lake.data.name, "bench/r.jsonl")() == lines.count
    assert lake_peers.lines_obstore(worker_lake.data.name, "bench/r.jsonl")() == lines.count
    assert lake_ours.elements(worker_lake.data.uri("bench/r.json"))() == array.count


def test_both_sides_load_the_same_rows(worker_lake: Lake, tmp_path: Path) -> None:
    table = Table(worker_lake, "bench/table")
    table.overwrite(pa.table({"n": [1, 2, 3]}))
    assert lake_ours.load_table("bench/table")() == 3
    (key,) = [uri.removeprefix(worker_lake.data.uri()) for uri in table.open().file_uris()]
    worker_lake.data.download(key, tmp_path / "copy.parquet")
    assert lake_peers.get_files(worker_lake.data.name, [key])() == (tmp_path / "copy.parquet").stat().st_size
    assert lake_peers.read_parquet([str(tmp_path / "copy.parquet")])() == 3


def test_generated_objects_can_be_streamed(worker_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    file = data.json_lines(100_000)
    with object_server.serving({"big.jsonl": ("json_lines", 100_000)}) as server:
        assert server["objects"] == {"big.jsonl": {"size": file.size, "count": file.count}}
        endpoint = f"http://127.0.0.1:{server['port']}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", endpoint)
        assert lake_ours.lines(worker_lake.data.uri("big.jsonl"))() == file.count
        assert lake_peers.lines_boto3(worker_lake.data.name, "big.jsonl")() == file.count


def test_the_area_prints_only_json_lines(worker_lake: Lake, session_home: Path) -> None:
    embedded.ensure_bucket(session_home, "pixel-bench")
    command = [sys.executable, "benchmarks/lake.py", "--json", "--scale", "0.001", "--repeats", "1"]
    # boto3, the peer of this section, is installed in this environment too.
    command += ["--only", "listing", "--peers-python", sys.executable]
    done = subprocess.run(
        command, cwd=harness.ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [figure["unit"] for figure in figures] == ["s", "CPU-s"]
    assert all(figure.keys() == KEYS and figure["peer"].startswith("boto3 1.") for figure in figures)
    assert done.stderr == "==> listing\n"
