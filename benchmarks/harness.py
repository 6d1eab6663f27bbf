"""Two programs side by side: fresh processes taken in turns, their ratio pair by pair, a table or JSON lines.

Imports nothing but the standard library: the workers of both environments use it too.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
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
    """A worker failed, or two programs that should do the same did not."""


@dataclass(frozen=True)
class Run:
    """One measured process.

    Attributes:
        wall: Seconds from the beginning of the work to its end; imports and opening a client are not in it.
        cpu: User and system seconds of the same time, over all threads and child processes.
        peak_rss: Most memory the process ever held, in bytes, imports included.
        count: What was done: objects listed, records read, rows. Equal on both sides.
        versions: Of the libraries that did it, by name.
    """

    wall: float
    cpu: float
    peak_rss: int
    count: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Worker:
    """A job of a worker module, in the environment of one interpreter.

    Attributes:
        python: The interpreter.
        module: Module with a call of `serve`.
        job: One of its jobs.
        arguments: Keyword arguments of the job; JSON.
        env: Added to this process's environment. Secrets go here: a command line is seen by everybody.
    """

    python: Path
    module: str
    job: str
    arguments: Mapping[str, Any]
    env: Mapping[str, str]

    def run(self) -> Run:
        """Run it in a process of its own. Raises BenchmarkError with the last line it wrote to stderr."""
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
            raise BenchmarkError(f"{self.module} {self.job} ended with {done.returncode}: {last}")
        return Run(**json.loads(done.stdout.splitlines()[-1]))


Pairs = Sequence[tuple[Run, Run]]


def alternate(ours: Callable[[], Run], peer: Callable[[], Run], *, repeats: int) -> Pairs:
    """Ours, peer, ours, peer …: whatever else slows the machine slows both. Raises BenchmarkError where counts differ."""
    pairs = [(ours(), peer()) for _ in range(repeats)]
    counts = {run.count for pair in pairs for run in pair}
    if len(counts) != 1:
        raise BenchmarkError(f"The two sides did not do the same; they counted {sorted(counts)}.")
    return pairs


@dataclass(frozen=True)
class Figure:
    """One line of the result. `ratio` is above 1 where ours is the better, whatever the unit; it is to reach `goal`.

    Attributes:
        figure: What is measured.
        value: Ours, the median, in `unit`.
        peer: What it is held against: a library with its version, or "limit".
        peer_value: The peer's median, or the limit.
        ratio: Median of the pairs' ratios.
        goal: Least ratio wanted; None where the figure is for information.
        spread: Least and largest ratio of a pair.
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
    """A figure from pairs of runs. Units ending in "s" alone or in bytes are better when small, rates when large."""
    values = [(measure(ours), measure(peer)) for ours, peer in pairs]
    ratios = [ours / peer if is_rate(unit) else peer / ours for ours, peer in values]
    found = pairs[0][1].versions
    return Figure(
        figure=figure,
        value=median(ours for ours, _ in values),
        unit=unit,
        peer=" ".join(f"{word} {found[word]}" if word in found else word for word in library.split()),
        peer_value=median(peer for _, peer in values),
        ratio=median(ratios),
        goal=goal,
        spread=(min(ratios), max(ratios)),
    )


def against_limit(
    figure: str, runs: Sequence[T], *, unit: str, measure: Callable[[T], float], limit: float
) -> Figure:
    """A figure that has to stay below a limit; of single runs, or of whatever `measure` takes."""
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
    """True where more is better: `MB/s`, `records/CPU-s`; False for `s`, `CPU-s`, `MB`."""
    return "/" in unit


def report(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print figures to stdout: JSON lines, or a table in which what misses its goal is marked."""
    if as_json:
        for figure in figures:
            line = asdict(figure)
            rounded = {name: _rounded(value) for name, value in line.items()}
            print(json.dumps(rounded))
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
    """What the command line says.

    Attributes:
        repeats: Pairs of runs of each figure.
        scale: Factor on all sizes; goals hold at 1.
        peers_python: Interpreter of the peers' environment.
    """

    repeats: int
    scale: float
    peers_python: Path

    def scaled(self, size: int) -> int:
        """A size at this scale, at least 1."""
        return max(1, round(size * self.scale))


def run_area(
    description: str,
    prepare: Callable[[Options], AbstractContextManager[T]],
    sections: Mapping[str, Section[T]],
) -> None:
    """Main function of `benchmarks/<area>.py`: measures its sections, prints their figures.

    Args:
        description: For `--help`.
        prepare: Gives all sections what they share, and takes it away in the end.
        sections: Figures by the name that `--only` takes.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON line a figure on stdout")
    parser.add_argument(
        "--only", nargs="+", choices=sections, default=[*sections], help="sections to measure"
    )
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs of each figure (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all sizes; goals hold at 1")
    parser.add_argument(
        "--peers-python", type=Path, default=PEERS_PYTHON, help="default: that of .venv-peers"
    )
    asked = parser.parse_args()
    if not asked.peers_python.exists():
        parser.exit(1, f"{asked.peers_python} is missing: run `make bench-peers`.\n")
    figures: list[Figure] = []
    failure = None
    with prepare(Options(asked.repeats, asked.scale, asked.peers_python)) as shared:
        try:
            for name in asked.only:
                print(f"==> {name}", file=sys.stderr, flush=True)
                for figure in sections[name](shared):
                    figures.append(figure)
        except BenchmarkError as error:
            # What was measured until then took minutes: it is shown all the same.
            failure = f"{error}\n"
    report(figures, as_json=asked.json)
    parser.exit(1 if failure else 0, failure)


def serve(jobs: Mapping[str, Callable[..., Callable[[], int]]], *, libraries: Sequence[str]) -> None:
    """Main function of a worker module: `JOB ARGUMENTS`, prints its `Run` as the last line.

    Args:
        jobs: A job sets up (imports, clients) and returns the work itself, which returns its count.
        libraries: Distributions whose versions are told, those that the job imports.
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


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + _running_below(os.getpid())


def _running_below(ancestor: int) -> float:
    """CPU seconds of running descendants and of what they waited for; 0 where there is no /proc.

    getrusage adds a child when it has ended, with all it did before the clock started; a pool of workers runs on.
    """
    fields: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            fields[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    found, ticks = {ancestor}, 0
    while more := {pid for pid, values in fields.items() if int(values[1]) in found} - found:
        found |= more
        ticks += sum(int(value) for pid in more for value in fields[pid][11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_rss() -> int:
    # getrusage counts what the parent held when it forked; Linux's own figure begins with the program.
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
