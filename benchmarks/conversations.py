"""Convert conversation files to Parquet, against peers that only convert. `make bench AREA=conversations`; see docs/benchmarks.md."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import data, object_server
from benchmarks.area import BUCKET, MATERIAL, Bench, check_count, cpu, memory, prepare, put_raw, wall
from benchmarks.harness import (
    MB,
    Figure,
    Options,
    Run,
    Worker,
    against_limit,
    against_peer,
    alternate,
    run_area,
)

CORES = 2
SHAREGPT_BYTES = 400 * MB
OTHER_BYTES = 200 * MB
MAPPED_BYTES = 60 * MB
LARGE_BYTES = (100 * MB, 10_000 * MB)
LARGE_LIMIT = 600 * MB
LINE_BYTES = 200 * MB
LINE_LIMIT = 1_200 * MB
TIMES_THE_BYTES = 16
TIMES_THE_CPU = 17.0
SMALL_OBJECTS = 20_000
RERUN_SECONDS = 10.0
# pyarrow reads JSON lines, but no JSON arrays.
PEERS = {
    "sharegpt.jsonl": ("duckdb", "polars", "daft", "pyarrow"),
    "sharegpt.json": ("duckdb", "polars", "daft"),
    "thoughts.jsonl": ("duckdb", "polars", "daft", "pyarrow"),
    "answers.csv": ("duckdb", "polars", "daft", "pyarrow"),
}


@contextmanager
def on_two_cores(options: Options) -> Iterator[Bench]:
    """Like `prepare`, with workers limited to two cores."""
    with prepare(options, area="conversations") as bench:
        # Without CPU affinity, the machine itself must have two cores.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        yield bench


def sharegpt(bench: Bench) -> Iterator[Figure]:
    """ShareGPT as JSON lines."""
    size = bench.options.scaled(SHAREGPT_BYTES)
    yield from _beside_peers(
        bench, "sharegpt.jsonl", name="ShareGPT JSONL", size=size, goal=1.5, goals={"duckdb": 2.0}
    )


def array(bench: Bench) -> Iterator[Figure]:
    """ShareGPT as one JSON array."""
    size = bench.options.scaled(OTHER_BYTES)
    yield from _beside_peers(bench, "sharegpt.json", name="ShareGPT JSON array", size=size)


def csv(bench: Bench) -> Iterator[Figure]:
    """Questions and answers with line breaks, quoted."""
    size = bench.options.scaled(OTHER_BYTES)
    yield from _beside_peers(bench, "answers.csv", name="question/answer CSV", size=size)


def thoughts(bench: Bench) -> Iterator[Figure]:
    """Question, chain of thought, response as JSON lines."""
    size = bench.options.scaled(OTHER_BYTES)
    yield from _beside_peers(bench, "thoughts.jsonl", name="chain-of-thought JSONL", size=size)


def _beside_peers(
    bench: Bench,
    kind: str,
    *,
    name: str,
    size: int,
    goal: float = 1.0,
    goals: Mapping[str, float] | None = None,
) -> Iterator[Figure]:
    """Compare with each peer; `goal` applies to the fastest peer, `goals` to named ones."""
    path = _file(bench, kind, size=size)
    for tuned in (False, True):
        figures: dict[str, Figure] = {}
        for library in PEERS[kind]:
            peer = partial(bench.peer, f"convert_{library}", path=str(path), kind=kind, tuned=tuned)
            pairs = alternate(
                _into_folder(bench, partial(bench.ours, "convert", paths=[str(path)])),
                _into_folder(bench, peer),
                repeats=bench.options.repeats,
            )
            label = f"{library} tuned" if tuned else library
            figures[library] = _speed(name, path.stat().st_size / MB, pairs, library=label)
        best = max(figures, key=lambda library: figures[library].peer_value)
        for library, figure in figures.items():
            required = max((goals or {}).get(library, 0.0), goal if library == best else 0.0)
            peer_name = f"{figure.peer}, the best" if library == best else figure.peer
            yield replace(figure, peer=peer_name, goal=required or None)


def mapping(bench: Bench) -> Iterator[Figure]:
    """The same mapping to roles and content, handwritten for peers with Python workers."""
    # They distribute whole files, not parts of them.
    paths = [
        _file(bench, "sharegpt.jsonl", size=bench.options.scaled(MAPPED_BYTES) // CORES, seed=seed)
        for seed in range(CORES)
    ]
    for library in ("datatrove", "datasets"):
        pairs = alternate(
            _into_folder(bench, partial(bench.ours, "convert", paths=[str(path) for path in paths])),
            _into_folder(bench, partial(bench.peer, f"map_{library}", paths=[str(path) for path in paths])),
            repeats=bench.options.repeats,
        )
        megabytes = sum(path.stat().st_size for path in paths) / MB
        yield replace(_speed("ShareGPT JSONL, mapped", megabytes, pairs, library=library), goal=10.0)


def _speed(name: str, megabytes: float, pairs: list[tuple[Run, Run]], *, library: str) -> Figure:
    return against_peer(
        f"{name}, {megabytes:,.0f} MB",
        pairs,
        unit="MB/s",
        measure=lambda run: megabytes / run.wall,
        library=library,
    )


def _file(bench: Bench, kind: str, *, size: int, seed: int = 7) -> Path:
    """Generate a local file once, and load it into the page cache."""
    path = bench.home / "files" / MATERIAL / f"{size}-{seed}-{kind}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.part")
        data.write_file(draft, data.KINDS[kind], size=size, seed=seed)
        draft.rename(path)
    with path.open("rb") as file:
        while file.read(data.CHUNK_BYTES):
            pass
    return path


def _into_folder(bench: Bench, worker: Callable[..., Worker]) -> Callable[[], Run]:
    """Return a function that runs a worker with a temporary output folder."""

    def run() -> Run:
        with TemporaryDirectory(dir=bench.home) as out:
            return worker(out=out).run()

    return run


def large(bench: Bench) -> Iterator[Figure]:
    """Memory to convert objects of growing size, which are generated on the fly."""
    sizes = [bench.options.scaled(size) for size in LARGE_BYTES]
    objects = {
        f"{size}{suffix}": (maker, size)
        for size in sizes
        for suffix, maker in ((".jsonl", "sharegpt_lines"), (".json", "sharegpt_array"))
    }
    long_line = bench.options.scaled(LINE_BYTES)
    objects["long_line.jsonl"] = ("sharegpt_long_line", long_line)
    with object_server.serving(objects) as server:
        for key, item in server["objects"].items():
            run = bench.ours(
                "convert_stored", endpoint=f"http://127.0.0.1:{server['port']}", bucket=BUCKET, key=key
            ).run()
            check_count(run, item["count"])
            name, limit = ("JSONL" if key.endswith(".jsonl") else "a JSON array"), LARGE_LIMIT
            if key == "long_line.jsonl":
                name, limit = "one line", LINE_LIMIT
            yield against_limit(
                f"memory to convert {name}, {item['size'] / MB:,.0f} MB",
                [run],
                unit="MB",
                measure=memory,
                limit=limit / MB,
            )


def linear(bench: Bench) -> Iterator[Figure]:
    """CPU time for a file relative to a sixteenth of its size, in one process."""
    for kind, name, size in (
        ("sharegpt.jsonl", "ShareGPT JSONL", SHAREGPT_BYTES),
        ("sharegpt.json", "ShareGPT JSON array", OTHER_BYTES),
        ("answers.csv", "question/answer CSV", OTHER_BYTES),
        ("thoughts.jsonl", "chain-of-thought JSONL", OTHER_BYTES),
    ):
        whole = bench.options.scaled(size)
        small, big = (
            _into_folder(bench, partial(bench.ours, "convert", paths=[str(path)], workers=1))
            for path in (_file(bench, kind, size=whole // TIMES_THE_BYTES), _file(bench, kind, size=whole))
        )
        pairs = [(small(), big()) for _ in range(bench.options.repeats)]
        yield against_limit(
            f"CPU of {TIMES_THE_BYTES} x the bytes, {name}",
            pairs,
            unit="x the CPU",
            measure=lambda pair: cpu(pair[1]) / cpu(pair[0]),
            limit=TIMES_THE_CPU,
        )


def rerun(bench: Bench) -> Iterator[Figure]:
    """A rerun over unchanged small objects."""
    count = bench.options.scaled(SMALL_OBJECTS)
    put_raw(bench.lake, count)
    check_count(bench.ours("convert_lake", unchanged=False).run(), count)
    runs = [bench.ours("convert_lake", unchanged=True).run() for _ in range(bench.options.repeats)]
    for run in runs:
        check_count(run, count)
    yield against_limit(
        f"rerun, {count:,} unchanged objects", runs, unit="s", measure=wall, limit=RERUN_SECONDS
    )


if __name__ == "__main__":
    run_area(
        "Convert conversation files to Parquet, against peers.",
        on_two_cores,
        {
            "sharegpt": sharegpt,
            "mapping": mapping,
            "csv": csv,
            "array": array,
            "cot": thoughts,
            "memory": large,
            "linear": linear,
            "rerun": rerun,
        },
    )
