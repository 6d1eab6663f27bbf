"""Compare two programs: fresh processes in alternation, ratios of pairs, a table or JSON lines.

In one file, and only on the standard library, because the workers of both environments import it too.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
import json
import os
from pathlib import Path
import resource
from statistics import median
import subprocess
import sys
import time
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
MB = 1_000_000
T = TypeVar("T")


class BenchmarkError(Exception):
    """A worker failed, or the two programs did different work."""


@dataclass(frozen=True)
class Run:
    """One measured process.

    Attributes:
        wall: Seconds of the work itself, without imports and opening a client.
        cpu: User and system seconds of the work, over all threads and child processes.
        peak_rss: Peak memory of the process in bytes, imports included.
        count: Amount of work: objects listed, records read, rows. Equal on both sides.
        versions: Versions of the libraries by name.
    """

    wall: float
    cpu: float
    peak_rss: int
    count: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Worker:
    """A job of a worker module, run by one interpreter.

    Attributes:
        python: The interpreter.
        module: Module that calls `serve`.
        job: One of its jobs.
        arguments: Keyword arguments of the job; JSON.
        env: Additions to this process's environment, including secrets, because command lines are public.
    """

    python: Path
    module: str
    job: str
    arguments: Mapping[str, Any]
    env: Mapping[str, str]

    def run(self) -> Run:
        """Run the job in a separate process. Raises BenchmarkError with the last line of its stderr."""
        done = subprocess.run(
            [self.python, "-m", self.module, self.job, json.dumps(dict(self.arguments))],
            cwd=ROOT,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise BenchmarkError(f"{self.module} {self.job} exited with {done.returncode}: {last}")
        return Run(**json.loads(done.stdout.splitlines()[-1]))


Pairs = Sequence[tuple[Run, Run]]


def alternate(ours: Callable[[], Run], peer: Callable[[], Run], *, repeats: int) -> Pairs:
    """Run both sides in alternation, so that other load affects both. Raises BenchmarkError if their counts differ."""
    pairs = [(ours(), peer()) for _ in range(repeats)]
    counts = {run.count for pair in pairs for run in pair}
    if len(counts) != 1:
        raise BenchmarkError(f"The two sides did different work; they counted {sorted(counts)}.")
    return pairs


@dataclass(frozen=True)
class Figure:
    """One line of the result. In any unit, a `ratio` above 1 means that this project is better; it should reach `goal`.

    Attributes:
        figure: Name of the figure.
        value: This project's median in `unit`.
        peer: The peer: a library with its version, or "limit".
        peer_value: The peer's median, or the limit.
        ratio: Median of the pairs' ratios.
        goal: Minimum ratio; None for a figure without a goal.
        spread: Smallest and largest ratio of a pair.
    """

    figure: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    goal: float | None
    spread: tuple[float, float]

    @property
    def reached(self) -> bool:
        return self.goal is None or self.ratio >= self.goal


def against_peer(
    figure: str,
    pairs: Pairs,
    *,
    unit: str,
    measure: Callable[[Run], float],
    library: str,
    goal: float | None = None,
) -> Figure:
    """Make a figure from pairs of runs. Rates are better when large, times and memory when small."""
    values = [(measure(ours), measure(peer)) for ours, peer in pairs]
    ratios = [ours / peer if is_rate(unit) else peer / ours for ours, peer in values]
    versions = pairs[0][1].versions
    return Figure(
        figure=figure,
        value=median(ours for ours, _ in values),
        unit=unit,
        peer=" ".join(f"{word} {versions[word]}" if word in versions else word for word in library.split()),
        peer_value=median(peer for _, peer in values),
        ratio=median(ratios),
        goal=goal,
        spread=(min(ratios), max(ratios)),
    )


def against_limit(
    figure: str, runs: Sequence[T], *, unit: str, measure: Callable[[T], float], limit: float
) -> Figure:
    """Make a figure that must stay below a limit, from single runs or other inputs of `measure`."""
    values = [measure(run) for run in runs]
    ratios = [limit / value for value in values]
    return Figure(
        figure=figure,
        value=median(values),
        unit=unit,
        peer="limit",
        peer_value=limit,
        ratio=median(ratios),
        goal=1.0,
        spread=(min(ratios), max(ratios)),
    )


def is_rate(unit: str) -> bool:
    """Whether more is better, as for `MB/s` and `records/CPU-s`, but not for `s`, `CPU-s`, `MB`."""
    return "/" in unit


def report(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print figures to stdout as JSON lines, or as a table that marks figures below their goals."""
    if as_json:
        for figure in figures:
            print(json.dumps({name: _rounded(value) for name, value in asdict(figure).items()}))
        return
    rows = [("figure", "ours", "peer", "", "ratio", "spread", "goal", "")]
    rows += [
        (
            item.figure,
            f"{_plain(item.value)} {item.unit}",
            _plain(item.peer_value),
            item.peer,
            f"{item.ratio:.2f}",
            f"{item.spread[0]:.2f}–{item.spread[1]:.2f}",
            "–" if item.goal is None else f"≥ {item.goal:g}",
            "" if item.goal is None else "reached" if item.reached else "BELOW GOAL",
        )
        for item in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in (1, 2, 4, 5, 6) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _rounded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


Section = Callable[[T], Iterable[Figure]]


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes:
        repeats: Pairs of runs for each figure.
        scale: Factor on all sizes; goals hold at 1.
        peers_python: Interpreter of the peers' environment.
    """

    repeats: int
    scale: float
    peers_python: Path

    def scaled(self, size: int) -> int:
        """Scale a size, to at least 1."""
        return max(1, round(size * self.scale))


def run_area(
    description: str,
    prepare: Callable[[Options], AbstractContextManager[T]],
    sections: Mapping[str, Section[T]],
) -> None:
    """Main function of `benchmarks/<area>.py`: measure its sections and print their figures.

    Args:
        description: Description for `--help`.
        prepare: Context manager of the resources that all sections share.
        sections: Functions that yield figures, by their names for `--only`.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON line per figure")
    parser.add_argument(
        "--only", nargs="+", choices=sections, default=[*sections], help="sections to measure"
    )
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs for each figure (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all sizes; goals hold at 1")
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=PEERS_PYTHON,
        help="interpreter of the peers (default: .venv-peers)",
    )
    options = parser.parse_args()
    if not options.peers_python.exists():
        parser.exit(1, f"{options.peers_python} is missing: run `make bench-peers`.\n")
    figures: list[Figure] = []
    failure = None
    with prepare(Options(options.repeats, options.scale, options.peers_python)) as shared:
        try:
            for name in options.only:
                print(f"==> {name}", file=sys.stderr, flush=True)
                for figure in sections[name](shared):
                    figures.append(figure)
        except BenchmarkError as error:
            # Figures measured so far took minutes, so they are printed too.
            failure = f"{error}\n"
    report(figures, as_json=options.json)
    parser.exit(1 if failure else 0, failure)


def serve(jobs: Mapping[str, Callable[..., Callable[[], int]]], *, libraries: Sequence[str]) -> None:
    """Main function of a worker module: run `JOB ARGUMENTS` and print its `Run` as the last line.

    Args:
        jobs: Functions that set up (imports, clients) and return the work itself, which returns its count.
        libraries: Distributions whose versions are reported if the job imports them.
    """
    job, arguments = sys.argv[1:]
    work = jobs[job](**json.loads(arguments))
    cpu, wall = _cpu_seconds(), time.perf_counter()
    count = work()
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    run = Run(
        wall=wall,
        cpu=cpu,
        peak_rss=_peak_rss(),
        count=count,
        versions={name: version(name) for name in libraries if name in sys.modules},
    )
    print(json.dumps(asdict(run)), flush=True)


@contextmanager
def server_process(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a server module in a separate process; yield the JSON line that it prints when it is ready."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + _running_below(os.getpid())


def _running_below(ancestor: int) -> float:
    """CPU seconds of running descendants and of their finished children; 0 without /proc.

    getrusage counts a child only once it has ended, but a pool of workers keeps running.
    """
    fields: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may contain any character.
            fields[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has just ended
    found, ticks = {ancestor}, 0
    while more := {pid for pid, values in fields.items() if int(values[1]) in found} - found:
        found |= more
        ticks += sum(int(value) for pid in more for value in fields[pid][11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_rss() -> int:
    # getrusage includes the parent's memory at the fork; VmHWM starts with the program.
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
