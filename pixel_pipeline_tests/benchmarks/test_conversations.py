"""Test material and jobs of the conversion benchmarks, on small files."""

import csv
import json
import os
from pathlib import Path
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from benchmarks import (
    area,
    conversations,
    conversations_ours,
    conversations_peers,
    data,
    harness,
    object_server,
)
from benchmarks.harness import BenchmarkError, Options
from pixel_pipeline.conversations.work import plan as tasks
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake

SIZE = 100_000


@pytest.fixture(params=data.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Output folder of Parquet files."""
    path = tmp_path / "out"
    path.mkdir()
    return path


def write(path: Path, kind: str) -> int:
    return data.write_file(path, data.KINDS[kind], size=SIZE)


def column(folder: Path, name: str) -> list[str]:
    return sorted(
        value for path in folder.glob("*.parquet") for value in pq.read_table(path)[name].to_pylist()
    )


def test_a_file_has_no_repeated_record(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    count = write(path, kind)
    assert SIZE <= path.stat().st_size < SIZE + 20_000
    text = path.read_text()
    if kind.endswith(".csv"):
        header, *records = csv.reader(text.splitlines(keepends=True))
        assert header == ["question", "answer"]
        assert all("\n" in answer for _, answer in records)
    elif kind.endswith(".json"):
        records = json.loads(text)
    else:
        records = [json.loads(line) for line in text.splitlines()]
    assert len(records) == count > 10
    assert len({json.dumps(record) for record in records}) == count


def test_pieces_contain_all_records(
    kind: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / kind
    count = write(path, kind)
    assert len(conversations_ours.pieces_of(str(path))) == 1
    assert conversations_ours.convert([str(path)], str(folder), workers=1)() == count
    whole = column(folder, "content_hash")
    for size in (7_000, 21_000):
        monkeypatch.setattr(tasks, "TASK_BYTES", size)
        assert len(conversations_ours.pieces_of(str(path))) > 1
        for file in folder.iterdir():
            file.unlink()
        assert conversations_ours.convert([str(path)], str(folder), workers=1)() == count
        assert column(folder, "content_hash") == whole


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.deep] if kind != "answers.csv" else []) for kind in data.KINDS],
)
def test_both_sides_have_the_same_count(kind: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / kind
    count = write(path, kind)
    bench = area.Bench("conversations", Options(1, 1.0, Path(sys.executable)), None, tmp_path, {})
    assert bench.ours("convert", paths=[str(path)], out=str(folder)).run().count == count
    for library in conversations.PEERS[kind]:
        # The others are installed only in the peers' environment.
        for tuned in (False, True) if library == "pyarrow" else ():
            assert conversations_peers.convert_pyarrow(str(path), str(folder), kind, tuned)() == count


@pytest.mark.deep
def test_the_fastest_peer_is_labelled_and_gets_the_goal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(conversations.PEERS, "thoughts.jsonl", ("pyarrow",))
    bench = area.Bench("conversations", Options(1, 0.001, Path(sys.executable)), None, tmp_path, {})
    figures = list(conversations.thoughts(bench))
    assert [" tuned" in figure.peer for figure in figures] == [False, True]
    for figure in figures:
        assert figure.peer.startswith("pyarrow ")
        assert figure.peer.endswith(", the best")
        assert figure.goal == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["files"], "output folders are deleted"


@pytest.mark.parametrize("maker", [data.sharegpt_lines, data.sharegpt_array, data.sharegpt_long_line])
def test_generated_objects_are_converted(worker_lake: Lake, maker: object) -> None:
    name = maker.__name__  # type: ignore[attr-defined]
    key = "big.json" if name.endswith("array") else "big.jsonl"
    with object_server.serving({key: (name, SIZE)}) as server:
        endpoint = f"http://127.0.0.1:{server['port']}"
        item = server["objects"][key]
        assert item["size"] > SIZE / 2
        assert conversations_ours.convert_stored(endpoint, worker_lake.data.name, key)() == item["count"]
    assert not [*worker_lake.data.list("bench")], "stored files are deleted"


def test_a_rerun_fails_if_it_converts_anything(worker_lake: Lake) -> None:
    area.put_raw(worker_lake, 10)
    with pytest.raises(BenchmarkError, match="nothing had changed"):
        conversations_ours.convert_lake(unchanged=True)()
    assert conversations_ours.convert_lake(unchanged=True)() == 10


@pytest.mark.deep
def test_the_area_runs(worker_lake: Lake, session_home: Path) -> None:
    embedded.ensure_bucket(session_home, "pixel-bench")
    command = [sys.executable, "-m", "benchmarks.conversations", "--json", "--scale", "0.001"]
    command += ["--repeats", "1", "--only", "linear", "rerun", "--peers-python", sys.executable]
    done = subprocess.run(
        command, cwd=harness.ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [figure["unit"] for figure in figures] == ["x the CPU"] * 4 + ["s"]
    assert {figure["peer"] for figure in figures} == {"limit"}
